#!/usr/bin/env python3
"""journal-verify - verify a signing journal of sti-hsm without sti-hsm.

    journal-verify.py --key PEM [--checkpoint FILE] DIR    all of a directory
    journal-verify.py --key PEM --proof FILE               one record's proof

What it does is docs/JOURNAL.md, and nothing else: Python's hashlib hashes, the openssl command
verifies signatures. PEM is the public key of the checkpoints, kept elsewhere. Exit status: 0 if
all is as it was written, 1 if not (the first fault of each file is printed), 2 for a wrong call.
"""
import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from urllib.parse import unquote

LINE = re.compile(
    rb"(0|[1-9][0-9]*) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([a-z/-]{1,31}) "
    rb"(-|[0-9a-f]{32}) (-|[0-9a-f]{64}) ([!-~]+) ([a-z/-]{1,31}) ([!-~]+) ([0-9a-f]{64})")
LINE_MAX = 1024
NOTHING = b"0" * 64
DASH = "\u2014 "


class Fault(Exception):
    """A difference between the journal and what was written."""


class Tree:
    """The Merkle tree of RFC 9162 section 2.1: its frontier."""

    def __init__(self):
        self.size, self.nodes = 0, []

    def append(self, leaf):
        size = self.size
        while size & 1:
            leaf = node(self.nodes.pop(), leaf)
            size >>= 1
        self.nodes.append(leaf)
        self.size += 1

    def root(self):
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        root = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            root = node(left, root)
        return root


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def detail(text):
    """NAME=VALUE,... as a dictionary."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {name: unquote(value) for name, _, value in pairs}


class Record:
    """One line and its position."""

    def __init__(self, fields, octet):
        (number, self.time, self.kind, self.key, self.digest, self.who, self.outcome, text,
         self.hash) = (field.decode("ascii") for field in fields)
        self.number, self.octet, self.detail = int(number), octet, detail(text)


def records(path, tree):
    """The lines of a file: each is checked, hashed into the chain and added to the tree."""
    octet, last = 0, NOTHING
    with open(path, "rb") as file:
        for line in file:
            place = f"record {tree.size}, octet {octet}: "
            if not line.endswith(b"\n"):
                return  # cut short, or being written: the index says which
            fields = LINE.fullmatch(line[:-1]) if len(line) <= LINE_MAX else None
            if fields is None:
                raise Fault(place + "not a line")
            try:
                datetime.strptime(fields[2].decode("ascii"), "%Y-%m-%dT%H:%M:%S.%fZ")
            except ValueError:
                raise Fault(place + "its time is none") from None
            if int(fields[1]) != tree.size:
                raise Fault(place + "its number is not the next")
            leaf = hashlib.sha256(b"\x00" + last + b" " + line[:-66]).digest()
            if leaf.hex().encode() != fields[9]:
                raise Fault(place + "its hash is not that of itself behind the line before")
            tree.append(leaf)
            last = fields[9]
            yield Record(fields.groups(), octet)
            octet += len(line)


# ---- checkpoints

class Key:
    """Verifies with the openssl command; knows its own hash."""

    def __init__(self, path):
        self.path = path
        der = subprocess.run(["openssl", "pkey", "-pubin", "-in", path, "-outform", "DER"],
                             check=True, capture_output=True).stdout
        self.hash = hashlib.sha256(der).digest()

    def verify(self, text, blob):
        """base64 of the first four octets of the key's hash, and a DER signature."""
        blob = base64.b64decode(blob, validate=True)
        if blob[:4] != self.hash[:4]:
            return False
        with tempfile.TemporaryDirectory() as temporary:
            signature, signed = (os.path.join(temporary, name) for name in ("sig", "text"))
            for name, octets in ((signature, blob[4:]), (signed, text.encode())):
                with open(name, "wb") as file:
                    file.write(octets)
            return subprocess.run(
                ["openssl", "dgst", "-sha256", "-verify", self.path, "-signature", signature,
                 signed], capture_output=True, check=False).returncode == 0


def note_text(origin, size, root, time):
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\ntime {time}\n"


def parse_note(text):
    """origin, size, root, what is signed, signature."""
    signed, blank, signature = text.partition("\n\n")
    lines = signed.split("\n")
    if not blank or len(lines) != 4 or not signature.startswith(DASH + lines[0] + " "):
        raise Fault("not a checkpoint")
    root = base64.b64decode(lines[2], validate=True)
    return lines[0], int(lines[1]), root, signed + "\n", signature.split(" ")[2].rstrip("\n")


def split_notes(text):
    """Checkpoints one after another; each ends with the line of its signature."""
    notes, note = [], ""
    for line in text.splitlines(keepends=True):
        note += line if note or line.strip() else ""
        if line.startswith(DASH):
            notes.append(note)
            note = ""
    return notes


# ---- a directory

class Journal:
    """The entries of the index about the files and about itself."""

    def __init__(self, directory, key, notes):
        self.dir, self.key, self.notes, self.faults = directory, key, notes, 0
        self.files, self.points, self.origin = {}, {}, None
        self.lines = self.checkpoints = 0

    def fault(self, file, text):
        self.faults += 1
        print(f"FAULT  {file}: {text}")

    def check_signature(self, record, origin):
        said = record.detail
        text = note_text(origin, said["size"], bytes.fromhex(said["root"]), said["at"])
        if hashlib.sha256(text.encode()).hexdigest() != record.digest:
            raise Fault(f"record {record.number}: its checkpoint is of something else")
        if record.key != self.key.hash.hex()[:32] or not self.key.verify(text, said["sig"]):
            raise Fault(f"record {record.number}: its checkpoint is not signed by that key")
        self.checkpoints += 1

    def take(self, record, root_before):
        said, name = record.detail, record.detail.get("file")
        if record.number == 0:
            self.origin = "sti-hsm/journal/" + said["id"] + "/"
        if record.kind == "checkpoint":
            if int(said["size"]) != record.number or said["root"] != root_before.hex():
                raise Fault(f"record {record.number}: its checkpoint is not of what is before it")
            self.check_signature(record, self.origin + "index")
        elif "sig" in said:
            self.check_signature(record, self.origin + name)
        elif record.key != "-":
            raise Fault(f"record {record.number}: no checkpoint where there should be one")
        if record.kind == "file-open":
            self.files[name] = {"state": "file-open"}
        elif record.kind.startswith("file-"):
            if name not in self.files:
                raise Fault(f"record {record.number}: a file that was never begun")
            if record.kind != "file-checkpoint":
                self.files[name] = {"state": record.kind, "size": int(said["size"]),
                                    "octets": int(said["octets"]), "torn": int(said.get("torn", 0))}
            self.points.setdefault(name, []).append((int(said["size"]), said["root"]))

    def index(self):
        tree, root = Tree(), None
        for record in records(os.path.join(self.dir, "index"), tree):
            self.take(record, root if root is not None else hashlib.sha256(b"").digest())
            root = tree.root()
            self.check_kept("index", tree)
        self.lines += tree.size
        self.check_kept_reached("index", tree)

    def check_kept(self, file, tree):
        for origin, size, root, _, _ in self.notes:
            if origin == self.origin + file and size == tree.size and root != tree.root():
                raise Fault(f"the first {size} records are not those of the checkpoint kept")

    def check_kept_reached(self, file, tree):
        for origin, size, _, _, _ in self.notes:
            if origin == self.origin + file and size > tree.size:
                raise Fault(f"record {tree.size}: ends here, but a checkpoint kept is of {size}")

    def file(self, name):
        path, about, tree = os.path.join(self.dir, name), self.files[name], Tree()
        points = sorted(self.points.get(name, []))
        if not os.path.exists(path):
            raise Fault("is missing")
        for record in records(path, tree):
            if record.number == 0 and record.detail.get("origin") != self.origin + name:
                raise Fault("record 0: the first line is not that of this file")
            while points and points[0][0] <= tree.size:
                size, root = points.pop(0)
                if size == tree.size and root != tree.root().hex():
                    raise Fault(f"record {record.number}: up to here it is not what the index says")
            self.check_kept(name, tree)
        if points:
            raise Fault(f"record {tree.size}: the file ends here, but has had {points[-1][0]}")
        self.check_kept_reached(name, tree)
        self.lines += tree.size
        octets = os.path.getsize(path)
        if about["state"] != "file-open" and octets != about["octets"] + about["torn"]:
            raise Fault(f"record {about['size']}: the index says that the file ended here")
        if about["state"] in ("file-open", "file-recovered"):
            print(f"note   {name}: not closed: what was not written when its process ended is lost")

    def guarded(self, file, check, *arguments):
        try:
            check(*arguments)
        except (Fault, KeyError, ValueError, IndexError, AttributeError, OSError) as fault:
            self.fault(file, fault if isinstance(fault, Fault) else f"cannot be: {fault!r}")

    def kept(self):
        for origin, size, _, signed, signature in self.notes:
            if not self.key.verify(signed, signature):
                raise Fault(f"{origin}, size {size}: its signature does not verify")
            if origin != self.origin + "index" and origin[len(self.origin):] not in self.files:
                raise Fault(f"{origin}: no such file in this journal")

    def verify(self):
        self.guarded("index", self.index)
        self.guarded("(kept)", self.kept)
        for name, about in self.files.items():
            if about["state"] != "file-removed":
                self.guarded(name, self.file, name)
        for name in sorted(os.listdir(self.dir)):
            if name != "index" and name not in self.files and not name.endswith(".pem"):
                self.fault(name, "is not in the index")
        print(f"{len(self.files)} files, {self.lines} records, {self.checkpoints} checkpoints, "
              f"{self.faults} faults")
        return self.faults == 0


# ---- one record

def check_proof(path, key):
    """C2SP tlog-proof; `extra` is what the leaf is the hash of."""
    with open(path, encoding="utf-8") as file:
        head, _, note = file.read().partition("\n\n")
    lines = head.split("\n")
    if lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("extra "):
        raise Fault("not a proof")
    leaf_data = base64.b64decode(lines[1][6:], validate=True)
    index = int(lines[2].split(" ")[1])
    origin, size, root, signed, signature = parse_note(note)
    if not key.verify(signed, signature):
        raise Fault("its checkpoint is not signed by that key")
    record = leaf_data[65:].decode("ascii")
    value, first, last = hashlib.sha256(b"\x00" + leaf_data).digest(), index, size - 1
    for text in lines[3:]:  # RFC 9162 section 2.1.3.2
        sibling = base64.b64decode(text, validate=True)
        if last == 0:
            raise Fault("the proof is too long")
        if first & 1 or first == last:
            value = node(sibling, value)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            value = node(value, sibling)
        first, last = first >> 1, last >> 1
    if index >= size or last or value != root or record.split(" ")[0] != str(index):
        raise Fault("the record is not in the tree of its checkpoint")
    print(f"{record}\nis in {origin}, of {size} records")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--key", required=True, metavar="PEM")
    parser.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--proof", metavar="FILE")
    parser.add_argument("dir", nargs="?", metavar="DIR")
    arguments = parser.parse_args()
    if (arguments.proof is None) == (arguments.dir is None):
        parser.error("either DIR or --proof FILE")
    try:
        key = Key(arguments.key)
        if arguments.proof:
            check_proof(arguments.proof, key)
            return 0
        notes = []
        if arguments.checkpoint:
            with open(arguments.checkpoint, encoding="utf-8") as file:
                notes = [parse_note(note) for note in split_notes(file.read())]
        return 0 if Journal(arguments.dir, key, notes).verify() else 1
    except (Fault, ValueError, IndexError) as fault:
        print(f"FAULT  {fault}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
