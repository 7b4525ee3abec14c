"""Configuration: text in; a frozen model, or the full list of problems, out.

    storage/     where the text is: it is read, watched and written there
    text/        text -> tables, whatever the language; edit.py: one item, put into the text; gathering.py: documents put together
    load.py      tables -> `Snapshot`; the only place that needs pydantic    followed.py  files that it depends on
    references.py  `$ENV:NAME` and the like; includes.py: storages put over the keys of items; encryption.py, opened.py: of their values
    secrecy.py   what is secret, and how it is kept out of what is said: THE table of it
    check.py     what one section alone cannot show: references, addresses taken twice; certificates.py, acme.py,
                 authorities.py, name_bounds.py: whose they are, and for which names they may be made; private_keys.py  decrypted ones
    lenient.py   what is taken otherwise than it is written, for who migrates: THE table of it; notes.py tells it, and what is said in vain
    unsupported.py  THE table of keys that come later    accounts.py  whom `[basic] user` means    paths.py  what can be written
    model.py     the one home of each key; what stages import
    wire.py      a snapshot as plain data, for MessagePack    tls_library.py, leaf_facts.py  what OpenSSL, and a certificate, say of it
    diff.py      what a new snapshot changes, and what of it only a restart applies    home.py  `~` in paths
    values.py    takes packed text apart (addresses.py, acme_values.py, dns_service.py, quantities.py, pem.py help) into what parts.py has
    default.py   the configuration of `pingap up` without a file; template.py: the one of `--template`
    convert.py   a configuration in another language    schema.py  the model as a JSON Schema    written.py  its values as text

Rules. A load gives every problem at once, each with the path of its key and a hint, or a snapshot that needs no further
checks. What a file may say is decided here; what a plugin section may say is decided by the plugin, through the
`plugin_checker` that the caller passes in. Nothing of ours is imported, nothing runs in the background but what
`Storage.follow` starts, and no stage parses configuration text: config asks here, all others get the snapshot. What is
compiled where it is used was checked here: templates, regexes, and the tables of plugins, which keep the form that they
were written in.
"""
