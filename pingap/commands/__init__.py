"""What a user types, a file for each group of commands.

    start.py        up; check.py: check
    processes.py    ps, scale, kill
    upstreams.py    upstreams, upstream drain, enable; cache.py: cache stats, explain, purge
    certs.py        certs, certs renew, probe; ca.py: ca
    generations.py  reload, rollback
    ending.py       down, restart
    reading.py      logs, tap
    configuration.py  config migrate, sync, history, restore
    plugins.py      plugins; plugin.py: plugin new, plugin test
    secret.py       secret encrypt, decrypt, rotate
    texts.py        schema; --template and --to-hcl, --to-kdl, --to-toml of up
    about.py        version, help, completion
    options.py      what they share: options, numbers, asking the instance, failing

A command says what it has to say with pingap/terminal.py, which never fails, and ends with `options.fail` or by
returning; pingap/cli.py turns all else into one line. What a command needs beyond click is imported when it runs.
"""
