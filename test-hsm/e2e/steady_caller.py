#!/usr/bin/python3
"""steady_caller.py - callers that keep their connections and lose nothing.

   steady_caller.py THREADS UNTIL_FILE_EXISTS URL CA_FILE BEARER_FILE [IDENTITIES]

Each thread has calls signed one after the other over one TLS connection, and opens another only
when an answer says "Connection: close". An answer that is not 200 with an Identity header, or a
connection that ends before its answer, is lost. Prints what happened; exit 1 if anything was lost.
IDENTITIES is a file to which each Identity header is appended, one a line.
"""
import http.client
import json
import os
import ssl
import sys
import threading
import time
from urllib.parse import urlparse

threads, stop_file, url, ca_file, bearer_file = sys.argv[1:6]
identities = open(sys.argv[6], "a", encoding="ascii") if len(sys.argv) > 6 else None
target = urlparse(url)
with open(bearer_file, encoding="ascii") as file:
    bearer = file.readline().strip()
context = ssl.create_default_context(cafile=ca_file)
counts = {"calls": 0, "connections": 0, "lost": 0}
lock = threading.Lock()


def count(what):
    with lock:
        counts[what] += 1


def record(identity):
    with lock:
        if identities:
            print(identity, file=identities, flush=True)


def connect():
    count("connections")
    return http.client.HTTPSConnection(target.hostname, target.port, context=context, timeout=20)


def sign(connection):
    body = json.dumps({"signingRequest": {
        "attest": "A", "dest": {"tn": ["12155551213"]}, "iat": int(time.time()),
        "orig": {"tn": "12155551212"}, "origid": "de305d54-75b4-431b-adb2-eb6b9e546014"}})
    connection.request("POST", "/stir/v1/signing", body, {
        "Content-Type": "application/json", "Authorization": "Bearer " + bearer})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200 or not json.loads(text)["signingResponse"]["identity"]:
        raise http.client.HTTPException(f"{answer.status}: {text!r}")
    record(json.loads(text)["signingResponse"]["identity"])
    return answer.getheader("Connection", "").lower() == "close"


def call_steadily():
    connection = connect()
    while not os.path.exists(stop_file):
        try:
            ended = sign(connection)
            count("calls")
        except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
            print(f"lost: {type(error).__name__}: {error}", flush=True)
            count("lost")
            ended = True
        if ended:
            connection.close()
            connection = connect()
        time.sleep(0.01)
    connection.close()


callers = [threading.Thread(target=call_steadily) for _ in range(int(threads))]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
print(json.dumps(counts))
sys.exit(1 if counts["lost"] or not counts["calls"] else 0)
