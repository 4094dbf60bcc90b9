"""Whom a supervisor talks with: the process that embeds it, the service manager, whoever looks for its pid.

control      the line between an embedding process and its supervisor
desk         where an embedding process is answered
roll_call    has workers bring their records up to date first
pidfile      the file that names the supervisor's pid
notify       the line to systemd
herald       what it is told, and when
"""
