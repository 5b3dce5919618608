#!/usr/bin/env python3
"""screenshots.py SITE FOLDER: opens each page of the site in headless chromium at the width of a phone and fails if one is wider than
its window; takes pictures of some pages, wide and narrow, light and dark; types into the search, as on a phone, and fails if the page
that is looked for is not the first answer. A page stands in a frame of exactly that width, because the
window of a headless browser has a least width; a script measures it."""
import functools
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading

PICTURES = ["index", "from_asyncio/rules", "from_asyncio/index", "reference/queue", "reference/index", "guide/http"]
# What is typed into the search -> the page that has to come first.
FOUND_FIRST = {"queue": "/reference/queue/", "gather": "/reference/gather/", "lock": "/reference/lock/", "semaphore": "/reference/semaphore/",
               "timeout": "/reference/timeout/", "task": "/reference/task/", "task_group": "/reference/task_group/", "with": "/reference/with/",
               "sleep": "/reference/sleep/", "stream": "/reference/stream/", "server": "/reference/server/", "file": "/reference/file/",
               "subprocess": "/reference/subprocess/", "workers": "/reference/workers/", "shared_queue": "/reference/shared_queue/",
               "run_main": "/reference/run/", "finally": "/reference/finally/", "to_thread": "/reference/executor/", "create_task": "/reference/task/",
               "websocket": "/reference/http_websocket/", "http": "/guide/http/", "sql": "/guide/sql/", "sqlite": "/guide/sql/",
               "postgres": "/guide/sql/", "jetstream": "/guide/machines/", "deadlock": "/guide/debugging/"}
BROWSER = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]

PROBE = """<!doctype html><body>FRAMES<pre id=found></pre><script>
onload = () => {
  for (const frame of document.querySelectorAll('iframe')) {
    const root = frame.contentDocument.documentElement;
    found.textContent += `\\n${frame.getAttribute('src')} ${root.scrollWidth} ${root.clientWidth}\\n`;
  }
};
</script>"""


# Types each query and waits for its answers: those of the query before are gone when the count of results is told anew.
SEARCH = """<!doctype html><body><iframe id=page src="/" style="width:390px;height:800px"></iframe><script>
const queries = QUERIES, found = {};
const until = async holds => { for (let i = 0; i < 300 && !holds(); ++i) await new Promise(done => setTimeout(done, 100)); };
onload = async () => {
  const d = page.contentDocument, input = d.querySelector('.md-search__input'), told = d.querySelector('.md-search-result__meta');
  d.querySelector('label[for=__search]').click();
  const type = text => { input.focus(); input.value = text; input.dispatchEvent(new Event('keyup', {bubbles: true})); };
  for (const query of queries) {
    type('');
    await until(() => !/\\d/.test(told.textContent) && !d.querySelector('.md-search-result__item'));
    type(query);
    await until(() => /\\d/.test(told.textContent) && d.querySelector('.md-search-result__item a'));
    const first = d.querySelector('.md-search-result__item a');
    found[query] = first ? new URL(first.href).pathname : 'nothing';
  }
  await fetch('/found', {method: 'POST', body: JSON.stringify(found)});
};
</script>"""


class quiet(http.server.SimpleHTTPRequestHandler):
    found, told = {}, threading.Event()  # what the page of the search has posted

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        self.told.set()

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the browser has ended
            pass


def browser(*arguments):
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(BROWSER + [f"--user-data-dir={profile}"] + list(arguments), capture_output=True, text=True, timeout=120, check=False).stdout


def searched(site, root):
    """Types the queries, and gives how many did not find their page first."""
    page = site / "searching.html"
    page.write_text(SEARCH.replace("QUERIES", json.dumps(list(FOUND_FIRST))))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shown = subprocess.Popen(BROWSER + ["--remote-debugging-port=0", f"--user-data-dir={profile}", root + "searching.html"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            quiet.told.wait(120)
        finally:
            shown.terminate()
            shown.wait()
            page.unlink()
    faults = 0
    for query, wanted in FOUND_FIRST.items():
        if quiet.found.get(query) != wanted:
            print(f"the search for {query} finds {quiet.found.get(query, 'no answer')} first, not {wanted}")
            faults += 1
    return faults


def address(page):
    return "" if page == "index" else (page[: -len("index")] if page.endswith("/index") else page + "/")


def main(site, folder):
    site = pathlib.Path(site).resolve()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted("/" + os.path.relpath(f.parent, site) + "/" for f in site.rglob("index.html"))
    pages = ["/" if p == "/./" else p for p in pages]
    probe = site / "probe.html"
    wide, found = 0, []
    try:
        for first in range(0, len(pages), 10):
            frames = "".join(f'<iframe src="{page}" style="width:390px;height:800px;border:0"></iframe>' for page in pages[first:first + 10])
            probe.write_text(PROBE.replace("FRAMES", frames))
            found += re.findall(r"^(?:.*>)?(/\S*) (\d+) (\d+)$", browser("--dump-dom", root + "probe.html"), re.M)
        for page, width, window in found:
            if int(width) > int(window):
                print(f"{page} is {width} wide in a window of {window}")
                wide += 1
        if len(found) != len(pages):
            print(f"only {len(found)} of {len(pages)} pages were measured")
            wide += 1
        frame = site / "frame.html"
        for page in PICTURES:
            name = page.replace("/", "_")
            browser("--window-size=1280,1600", f"--screenshot={folder / (name + '-wide.png')}", root + address(page))
            frame.write_text(f'<!doctype html><body style="margin:0"><iframe src="/{address(page)}" style="width:390px;height:1400px;border:0">')
            browser("--window-size=500,1400", f"--screenshot={folder / (name + '-phone.png')}", root + "frame.html")
        browser("--window-size=1280,1600", "--blink-settings=preferredColorScheme=0", f"--screenshot={folder / 'dark.png'}", root + "reference/queue/")
        frame.unlink()
        wide += searched(site, root)
    finally:
        probe.unlink()
    print(f"{len(found)} pages measured at 390 pixels, {len(FOUND_FIRST)} queries typed")
    return bool(wide)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
