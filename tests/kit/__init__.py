"""What tests of several packages share: doubles of what a stage has around it, and how messages travel.

wire.py         what arrives of a message that is sent
context.py      an actor's context without processes or sockets
transport.py    one end of a connection, with the buffers in between
clock.py        time that passes when the test says so
loop.py         a loop whose turns the test takes
config.py       configurations from text in hand
reference.py    one of the reference, with all its keys
generations.py  what the config actor would say
waiting.py      for what is to happen, with a deadline; free ports, and figures from /proc
peer_process.py a program that tests talk to, from its start until it is killed
by_the_book.py  h11, mended where it is not
"""
