"""One instance takes over from another, and no client notices (docs/decisions/0024).

    succession.py   this instance's place: what it takes from the one before, whom it starts and hands over to
    handover.py     the socket at which it hands over: the packets        takeover.py   the newcomer's end of it
    stand_in.py     what is left of the first process, for whoever waits for it
    autorestart.py  decides when `--autorestart` upgrades

What changes hands are open files: the locks of the run dir (pingap/rundir.py) and of the pid file, and the listening
sockets (pingap/listeners.py). That the one before drains, and how gently, is decided in pingap/plan.py.
"""
