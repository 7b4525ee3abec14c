"""The supervisor as a process of its host: in the background, as another user, as a unit of a service manager, as process 1.

    daemon.py       `-d`: in the background, and what the launcher is told     pid_file.py   the file of `basic.pid_file`
    step_down.py    root becomes `[basic] user`: who is given what before      privileges.py what of root is given up, and how
    unit.py         what a service manager hears, and when                     systemd.py    the words of that (sd_notify)
    vitals.py       what must be alive for the watchdog to be fed              activation.py sockets that the manager holds
    process_one.py  what is different for process 1 of a container

Nothing here knows of stages or of configurations beyond [basic]; pingap/boot.py calls it in the order that each needs.
"""
