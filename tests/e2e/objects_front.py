"""A server that stands before an object store and does to requests what networks and busy services do.

    objects_front.py HOST:PORT RULE...        prints its own port, then one line for each request that a rule has met

A rule is METHOD,TEXT,ACTION,SKIP,COUNT: of the requests of that method ('*': any) whose target holds TEXT, it lets the first SKIP pass, does ACTION to the
next COUNT, and leaves the others alone.  Actions:
    busy[=SECONDS]  answers 503 ServerBusy, with Retry-After
    old=SECONDS     answers 403 as a service does whose clock is so far off, with its Date
    cut             reads, or hands on, half of the body, and closes the connection
    lost            hands the request on, and closes the connection instead of answering
    flip            changes a byte of the answer's body
    hold            never answers
It ends when its standard input does.
"""
import email.utils
import http.client
import http.server
import os
import socket
import sys
import threading
import time

BUSY = b'<?xml version="1.0"?><Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>'
DENIED = (b'<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.</Message>'
          b'<AuthenticationErrorDetail>Request date header too old</AuthenticationErrorDetail></Error>')


class Rule:
    def __init__(self, text):
        self.method, self.text, self.action, skip, count = text.split(",")
        self.skip, self.count = int(skip), int(count)

    def meets(self, method, target):
        if self.method not in ("*", method) or self.text not in target:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.count -= 1
        return self.count >= 0


RULES = [Rule(text) for text in sys.argv[2:]]
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def action(self):
        with LOCK:
            for rule in RULES:
                if rule.meets(self.command, self.path):
                    print(self.command, self.path.split("?")[0], rule.action, flush=True)
                    return rule.action.partition("=")[::2]
        return "", ""

    def close(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def say(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def any(self):
        length = int(self.headers.get("Content-Length", 0))
        what, value = self.action()
        if what == "cut" and length:
            self.rfile.read(length // 2)
            return self.close()
        body = self.rfile.read(length)
        if what == "hold":
            while self.connection.recv(1):
                pass
            return self.close()
        if what == "busy":
            headers = [("Content-Length", len(BUSY)), ("x-ms-error-code", "ServerBusy")]
            return self.say(503, headers + ([("Retry-After", value)] if value else []), BUSY)
        if what == "old":
            date = email.utils.formatdate(time.time() + int(value), usegmt=True)
            return self.say(403, [("Content-Length", len(DENIED)), ("Date", date), ("x-ms-error-code", "AuthenticationFailed")], DENIED)
        upstream = http.client.HTTPConnection(sys.argv[1], timeout=60)
        upstream.request(self.command, self.path, body if length or self.command in ("PUT", "POST") else None, dict(self.headers.items()))
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if what == "lost":
            return self.close()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("connection", "keep-alive", "transfer-encoding", "content-length")]
        headers.append(("Content-Length", answer.getheader("Content-Length", "0") if self.command == "HEAD" else len(data)))
        if what == "flip" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if what == "cut":
            self.say(answer.status, headers, data[:len(data) // 2])
            return self.close()
        return self.say(answer.status, headers, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = any


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
