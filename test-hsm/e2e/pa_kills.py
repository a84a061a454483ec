#!/usr/bin/env python3
"""pa_kills.py SERVER DIR URL KILLS SEED - the clients of test_pa_kills.sh, and who kills.

SoftHSM empties and writes the token's file at each login, and what is killed just then loses the
token, not our state: so nothing is killed before all workers say that they are ready.
"""
import base64
import http.client
import json
import os
import random
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

SERVER, DIR, URL, KILLS, SEED = sys.argv[1:4] + [int(sys.argv[4]), int(sys.argv[5])]
WORKERS = 2
READY_S = 60
SETTLE_S = 60
random.seed(SEED)
trust = ssl.create_default_context(cafile=f"{DIR}/pa/tls-root.pem")
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
)
over = threading.Event()
faults = []
tokens, revoked = [], []  # tokens handed out, revocations accepted
lists, crls = [0], [0]  # numbers observed


def text_of(name):
    with open(f"{DIR}/{name}", encoding="ascii") as file:
        return file.read().strip()


def ask(path, body=None, key=None):
    """Status and octets; (0, b"") when there was no answer, as from a server that was killed."""
    request = urllib.request.Request(URL + path)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def octets_of(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def name_of_issuer():
    """The DER of the subject: what stands before the public key of the certificate."""
    text = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER", "-in", f"{DIR}/issuing.der"],
        check=True, capture_output=True, text=True,
    ).stdout
    places = [re.match(r" *(\d+):d=2 +hl=(\d+) l= *(\d+)", line) for line in text.splitlines()]
    places = [tuple(map(int, place.groups())) for place in places if place]
    at, head, length = places[5]  # version, serial, algorithm, issuer, validity, subject
    with open(f"{DIR}/issuing.der", "rb") as file:
        return file.read()[at:at + head + length]


ISSUER = base64.b64encode(name_of_issuer()).decode()
SP_KEY, CA_KEY = text_of("sp.key"), text_of("ca.key")
NOT_AFTER = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 86400))
WISH = {"atc": {"tktype": "TNAuthList", "tkvalue": "MAigBhYEMTIzNA", "ca": False,
                "fingerprint": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"}}


def expect(status, allowed, what):
    if status not in allowed:
        faults.append(f"{what}: {status}")
        over.set()


def want_tokens():
    while not over.is_set():
        status, body = ask("/at/account/1234/token", WISH, SP_KEY)
        expect(status, (0, 200, 503), "token")
        if status == 200:
            tokens.append(json.loads(octets_of(json.loads(body)["token"].split(".")[1]))["jti"])


def want_revocations(client):
    count = 0
    while not over.is_set():
        count += 1
        serial = f"{client:02x}{count:06x}7f"
        status, _ = ask("/sti-pa/revocations",
                        {"issuer": ISSUER, "serial": serial, "reason": 1, "requester": "test",
                         "notAfter": NOT_AFTER}, CA_KEY)
        expect(status, (0, 200, 403, 503), "revocation")  # 403: its root was removed from the list
        if status == 200:
            revoked.append(serial)
        time.sleep(0.05)


def crl_number(der):
    at = der.index(bytes.fromhex("0603551d14"))  # 2.5.29.20, an OCTET STRING with an INTEGER
    length = der[at + 8]
    return int.from_bytes(der[at + 9:at + 9 + length], "big")


def note(seen, number, what):
    if number < max(seen):
        faults.append(f"{what} {number} after {max(seen)}")
        over.set()
    seen.append(number)


def look():
    """One after the other, so that an earlier answer is not seen later."""
    status, body = ask("/api/v1/ca-list")
    expect(status, (0, 200, 503), "list")
    if status == 200:
        note(lists, json.loads(octets_of(json.loads(body)["caList"].split(".")[1]))["sequence"],
             "sequence")
    status, body = ask("/download/v1/crl")
    expect(status, (0, 200, 503), "CRL")
    if status == 200:
        note(crls, crl_number(body), "CRL number")
    return body if status == 200 else b""


def keep_looking():
    while not over.is_set():
        look()


def ready_pids():
    with open(f"{DIR}/log", encoding="utf-8", errors="replace") as file:
        said = re.findall(r"worker \d+ \(pid (\d+)\): ready", file.read())
    return [int(pid) for pid in said if os.path.exists(f"/proc/{pid}")]


def wait_until_ready(daemon):
    end = time.monotonic() + READY_S
    while len(ready_pids()) < WORKERS:
        if time.monotonic() > end or daemon.poll() is not None:
            sys.exit("sti-pa does not serve")
        time.sleep(0.02)


def start():
    log = open(f"{DIR}/log", "ab")
    daemon = subprocess.Popen([SERVER, "serve", "--config", f"{DIR}/pa/sti-pa.conf"],
                              stdout=log, stderr=log)
    with open(f"{DIR}/pid", "w", encoding="ascii") as file:
        file.write(str(daemon.pid))
    wait_until_ready(daemon)
    return daemon


def change_list():
    """The list has another sequence each time, and in half of the time revocations are accepted."""
    config = ["--config", f"{DIR}/pa/sti-pa.conf"]
    shown = subprocess.run([SERVER, "ca", "list", *config], check=True, capture_output=True,
                           text=True).stdout
    if shown:
        command = ["ca", "remove", *config, "--sha256", shown.split()[0], "--reason", "test"]
    else:
        command = ["ca", "add", *config, "--root", f"{DIR}/root.pem"]
    subprocess.run([SERVER, *command], check=True, capture_output=True)


def end_daemon(daemon):
    for pid in ready_pids():  # otherwise another process with the same pid could be taken for ready
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.01)
    daemon.wait()
    os.truncate(f"{DIR}/log", 0)


daemon = start()
threads = [threading.Thread(target=want_tokens) for _ in range(3)]
threads += [threading.Thread(target=want_revocations, args=(i,)) for i in (1, 2)]
threads += [threading.Thread(target=keep_looking)]
for thread in threads:
    thread.start()
for kill in range(KILLS):
    change_list()
    time.sleep(random.random())
    if over.is_set():
        break
    if kill % 2 == 0:  # all processes: the workers end with the supervisor
        daemon.send_signal(signal.SIGKILL)
        end_daemon(daemon)
        daemon = start()
    else:
        os.kill(random.choice(ready_pids()), signal.SIGKILL)
        time.sleep(0.05)
        wait_until_ready(daemon)
over.set()
for thread in threads:
    thread.join()

# every token that was handed out and every revocation that was accepted
settled = time.monotonic() + SETTLE_S
crl = look()
missing = [serial for serial in revoked if bytes.fromhex("0205" + serial) not in crl]
while missing and time.monotonic() < settled:
    time.sleep(0.2)
    crl = look()
    missing = [serial for serial in missing if bytes.fromhex("0205" + serial) not in crl]
if missing:
    faults.append(f"accepted, and not on the CRL: {missing[:5]}")
store = sqlite3.connect(f"{DIR}/pa/sti-pa.db", timeout=10)
recorded = {row[0] for row in store.execute("SELECT jti FROM spc_token WHERE account = '1234'")}
entries = [row[0] for row in store.execute("SELECT entry FROM revocation WHERE entry IS NOT NULL")]
check = store.execute("PRAGMA integrity_check").fetchone()[0]
if len(set(tokens)) != len(tokens):
    faults.append("two tokens have one jti")
if not set(tokens) <= recorded:
    faults.append(f"tokens that the store does not know: {list(set(tokens) - recorded)[:5]}")
if len(set(entries)) != len(entries) or check != "ok":
    faults.append(f"the store: {check}, {len(entries)} entries")
if not tokens or not revoked or max(lists) < 1 or max(crls) < 2:
    faults.append("nothing was done")
daemon.send_signal(signal.SIGTERM)
if daemon.wait() != 0:
    faults.append("it does not end well")
os.unlink(f"{DIR}/pid")
if faults:
    sys.exit(f"seed {SEED}: " + "; ".join(faults))
print(f"{KILLS} kills, {len(tokens)} tokens, {len(revoked)} revocations, CRL {max(crls)}, "
      f"list {max(lists)}")
