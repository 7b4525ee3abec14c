"""What tests of several packages share: doubles of what a stage has around it, and how messages travel.

wire.py      what arrives of a message that is sent
context.py   an actor's context without processes or sockets
"""
