#!/usr/bin/env python3
"""at_terminal.py PROMPT COMMAND.. - run a command at a terminal of its own, as a person would.

Each time it shows PROMPT, the first line of standard input is typed. What it shows comes out; its
exit status is ours.
"""
import os
import pty
import sys
import termios
import time

prompt, command = sys.argv[1].encode(), sys.argv[2:]
answer = sys.stdin.readline().rstrip("\n").encode() + b"\n"
shown = b""


def type_answer():
    """When it no longer shows what is typed; what came earlier would be thrown away."""
    for _ in range(1000):
        if not termios.tcgetattr(terminal)[3] & termios.ECHO:
            break
        time.sleep(0.01)
    os.write(terminal, answer)


pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
while True:
    try:
        octets = os.read(terminal, 4096)
    except OSError:  # the other end is closed
        break
    if not octets:
        break
    os.write(1, octets)
    shown += octets
    while prompt in shown:
        shown = shown.split(prompt, 1)[1]
        type_answer()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
