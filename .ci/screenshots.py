#!/usr/bin/env python3
"""screenshots.py SITE FOLDER: opens each page of the site in headless chromium at the width of a phone and fails if one is wider than
its window; takes pictures of some pages, wide and narrow, light and dark. A page stands in a frame of exactly that width, because the
window of a headless browser has a least width; a script measures it."""
import functools
import http.server
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading

PICTURES = ["index", "from_asyncio/rules", "from_asyncio/index", "reference/queue", "reference/index", "guide/http"]
BROWSER = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]

PROBE = """<!doctype html><body>FRAMES<pre id=found></pre><script>
onload = () => {
  for (const frame of document.querySelectorAll('iframe')) {
    const root = frame.contentDocument.documentElement;
    found.textContent += `\\n${frame.getAttribute('src')} ${root.scrollWidth} ${root.clientWidth}\\n`;
  }
};
</script>"""


class quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the browser has ended
            pass


def browser(*arguments):
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(BROWSER + [f"--user-data-dir={profile}"] + list(arguments), capture_output=True, text=True, timeout=120, check=False).stdout


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
    finally:
        probe.unlink()
    print(f"{len(found)} pages measured at 390 pixels")
    return bool(wide)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
