// The server of bench/http_server.cpp in Go with net/http, on one processor (GOMAXPROCS=1, which servers.py sets).
//
// Usage: server PORT [CERTIFICATE KEY]
// With a certificate it speaks TLS, and HTTP/2 where the client asks for it. /echo is a WebSocket that echoes, by gorilla/websocket.
// See ../../../README.md.
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var text = []byte("hello, world\n")
var upgrader = websocket.Upgrader{}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(text)
}

func echo(w http.ResponseWriter, r *http.Request) {
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil || socket.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	http.HandleFunc("/", hello)
	http.HandleFunc("/echo", echo)
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) > 3 {
		check(http.ListenAndServeTLS(address, os.Args[2], os.Args[3], nil))
	}
	check(http.ListenAndServe(address, nil))
}
