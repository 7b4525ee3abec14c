"""The command: what is run, by whom it is watched, and how it is spoken to.

    cli.py         the command line            client.py   asks the running instance
    boot.py        configuration, sockets, then the supervisor (launch.py: what it is handed)      face.py   what is printed meanwhile
    supervisor.py  one loop: acts              plan.py     decides (plan_words.py, plan_state.py, plan_table.py: its words and memory)
    control.py     the control socket (stage_questions.py: what stages answer)    listeners.py   the listening sockets
    spawner.py     forks all processes         spawning.py    the supervisor's end of it
    topology.py    THE table of processes, sockets, settings and internal destinations     loading.py   a configuration with all checks
    rundir.py      who holds the run dir (instance_dir.py: each instance's part of it)     demo.py   the backends without a configuration
    service/       in the background, as a user, under systemd, as process 1     succession/   one instance takes over from another
    signals.py     those that are heard        peers.py   who is at the other end of a socket
    limits.py      what the system refuses     preflight.py  what a check asks of the machine     quick_start.py   a configuration of flags
    plugin.py      what a plugin author imports    events.py   side-consumers    tail.py   `logs` and `tap`    schema.py   for editors

`pingap up` becomes the supervisor. It starts the spawner at once, which imports the
stages while the supervisor does its own preparations; a child of the spawner loads
the configuration, so that neither keeps pydantic's memory twice. Processes are
forked by the spawner, speak with the supervisor over the control socket, and are
replaced when they end or fall silent. The supervisor holds what must outlive
them: the listening sockets, the table of members and the run dir.
"""
