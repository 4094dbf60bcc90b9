"""Communication with other processes: the one that embeds the supervisor, the service manager, readers of the pidfile.

control           the socket pair between an embedding process and its supervisor
control_server    answers the requests of an embedding process
roll_call         has workers bring their records up to date first
pidfile           the file that names the supervisor's pid
notify_socket     sends datagrams to systemd (sd_notify)
systemd_notifier  decides which of them to send, and when
"""
