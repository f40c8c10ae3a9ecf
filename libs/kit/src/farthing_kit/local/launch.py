"""Becomes another program that dies with the process that started it. Run as a script, never imported.

    python -I -S launch.py PARENT [--uid N | --namespace] PROGRAM ARGS…

A script instead of subprocess's preexec_fn: Python code between fork and exec may deadlock in a process that has
threads, and gRPC has. `--uid` gives up root (PostgreSQL refuses to run as root). `--namespace` does so in a user
namespace, where files keep looking like our own: for folders that another user may not enter, such as root's home.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
INNER_UID = 1000


def give_up_root(uid: int) -> None:
    """Become `uid` with its own group and no other."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def enter_namespace(libc: ctypes.CDLL) -> None:
    """Enter a user namespace in which this user is an ordinary one."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a user namespace")
    for path, line in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{INNER_UID} {uid} 1"),
        ("/proc/self/gid_map", f"{INNER_UID} {gid} 1"),
    ):
        with open(path, "w") as file:
            file.write(line)


def main(args: list[str]) -> None:
    """Prepare, then become the program."""
    parent, args = int(args[0]), args[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if args[0] == "--uid":
        give_up_root(int(args[1]))
        args = args[2:]
    elif args[0] == "--namespace":
        enter_namespace(libc)
        args = args[1:]
    # After the change of user, which clears it.
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above could tie us to it
            sys.exit("the parent is gone")
    os.execv(args[0], args)


if __name__ == "__main__":
    main(sys.argv[1:])
