"""The hands of the loop: what happened becomes events, actions become system calls. Each decides nothing.

    hearing   messages of children and confirmed forks, as events
    deaths    who has died, as events; ends the processes that the dead have left
    looks     looks at the workers in steps of time: who stalls, what is broken
    actions   performs what the machine asks for: a table from action to method
    telling   tells others how it goes: the embedding process, the service manager, a log reader

They know all other rooms; only `loop` knows them.
"""
