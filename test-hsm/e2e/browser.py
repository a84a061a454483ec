"""browser.py - a person at the web pages of the STI-CA: headless Chromium over WebDriver.

    browser.py CHROMIUM BASE_URL SPKI_SHA256 SPC WORK SCREENSHOTS

WORK holds csr.pem, other.pem (a CSR whose key is not that of the token), token, user, password.
The chain that was downloaded is put there as downloads/sti-*.pem. Standard library only.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver section 11
WAIT_S = 20
NARROW = 320  # CSS pixels, WCAG 2.2 criterion 1.4.10


class Browser:
    def __init__(self, chromium, spki, work):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            self.base = "http://127.0.0.1:%d" % self._port()
            self.session = self._new_session(chromium, spki, work)
        except BaseException:
            self.close()
            raise

    def _port(self):
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                return int(line.rstrip(".\n").split()[-1])
        raise RuntimeError("chromedriver did not start")

    def _new_session(self, chromium, spki, work):
        options = {
            "binary": chromium,
            "args": [
                "--headless=new",
                "--no-sandbox",  # root has no other choice
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
                "--window-size=1000,900",
                "--user-data-dir=" + os.path.join(work, "profile"),
                "--ignore-certificate-errors-spki-list=" + spki,
            ],
            "prefs": {"download.default_directory": os.path.join(work, "downloads")},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        return "/session/" + answer["sessionId"]

    def _call(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)["value"]

    def post(self, path, body=None):
        return self._call("POST", self.session + path, body)

    def get(self, path):
        return self._call("GET", self.session + path)

    def open(self, url):
        self.post("/url", {"url": url})

    def element(self, css):
        return self.post("/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.post("/element/%s/click" % self.element(css))

    def text(self, css):
        return self.get("/element/%s/text" % self.element(css))

    def label(self, css):
        return self.get("/element/%s/computedlabel" % self.element(css))

    def run(self, script):
        return self.post("/execute/sync", {"script": script, "args": []})

    def cdp(self, command, **params):
        return self.post("/goog/cdp/execute", {"cmd": command, "params": params})

    def paste(self, css, text):
        """As from the clipboard: typing 1,000 characters takes long."""
        element = self.element(css)
        self.post("/element/%s/clear" % element)
        self.post("/element/%s/click" % element)
        self.cdp("Input.insertText", text=text)

    def width(self, pixels):
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, path):
        shot = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as to:
            to.write(base64.b64decode(shot["data"]))

    def close(self):
        if hasattr(self, "session"):
            self._call("DELETE", self.session)
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()


def expect(condition, what):
    if not condition:
        sys.exit("browser: " + what)


class Visit:
    """The pages, one after the other."""

    def __init__(self, browser, url, spc, work, shots):
        self.browser, self.url, self.spc = browser, url, spc
        self.work, self.shots = work, shots

    def read(self, name):
        with open(os.path.join(self.work, name), encoding="ascii") as file:
            return file.read()

    def title(self, wanted):
        until = time.monotonic() + WAIT_S
        while self.browser.get("/title") != wanted + " - STI-CA":
            expect(time.monotonic() < until, "not %s: %s" % (wanted, self.browser.get("/source")))
            time.sleep(0.05)

    def look(self, name):
        """A screenshot; and in a narrow window nothing is cut off."""
        self.browser.screenshot(os.path.join(self.shots, name + ".png"))
        self.browser.width(NARROW)
        wide = self.browser.run("return document.documentElement.scrollWidth")
        self.browser.screenshot(os.path.join(self.shots, name + "-narrow.png"))
        self.browser.width(1000)
        expect(wide <= NARROW, "%s: %d pixels wide in a window of %d" % (name, wide, NARROW))

    def form(self):
        self.browser.open(self.url + "/web")
        self.title("Request a certificate")
        expect(self.browser.run("return document.scripts.length") == 0, "a script")
        expect("Certificate signing request" in self.browser.label("#csr"), "the CSR has no label")
        expect(self.browser.label("#token") == "SPC token", "the token has no label")
        self.look("form")

    def send(self, csr, title):
        self.browser.paste("#csr", self.read(csr))
        self.browser.paste("#token", self.read("token"))
        self.browser.click("main form button")
        self.title(title)

    def refusal(self):
        self.send("other.pem", "Refused: request a certificate")
        expect("fingerprint: not that of the CSR's key" in self.browser.text(".summary"), "why")
        self.look("refusal")
        self.browser.click(".summary a")
        focus = self.browser.run("return location.hash")
        expect(focus == "#token", "the summary leads to " + focus)
        invalid = self.browser.run("return document.querySelector('#token').ariaInvalid")
        expect(invalid == "true", "the field is not marked")

    def issue(self):
        self.send("csr.pem", "Check what will be certified")
        expect("CN=SHAKEN " + self.spc in self.browser.text("main"), "the subject is not shown")
        self.look("preview")
        self.browser.click("main form button")
        self.title("Your certificate")
        self.look("certificate")

    def download(self):
        downloads = os.path.join(self.work, "downloads")
        self.browser.click("a.button")
        until = time.monotonic() + WAIT_S
        while not os.path.exists(os.path.join(downloads, "sti-%s.pem" % self.spc)):
            expect(time.monotonic() < until, "nothing was downloaded")
            time.sleep(0.05)

    def status(self):
        user, password = self.read("user").strip(), self.read("password").strip()
        host = self.url.replace("https://", "https://%s:%s@" % (user, urllib.parse.quote(password)))
        self.browser.open(host + "/web/status")
        self.title("Status")
        text = self.browser.text("main")
        for wanted in ("The token is ready.", "minutes old and good.", "web page", "ACME"):
            expect(wanted in text, "the status does not say " + wanted)
        self.look("status")

    def log(self):
        for entry in self.browser.post("/se/log", {"type": "browser"}):
            expect("Content Security Policy" not in entry["message"], entry["message"])


def main():
    chromium, url, spki, spc, work, shots = sys.argv[1:]
    os.makedirs(os.path.join(work, "downloads"))
    browser = Browser(chromium, spki, work)
    try:
        visit = Visit(browser, url, spc, work, shots)
        for step in (visit.form, visit.refusal, visit.issue, visit.download, visit.status, visit.log):
            step()
    finally:
        browser.close()


main()
