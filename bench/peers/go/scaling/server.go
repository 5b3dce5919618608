// The server of bench/scaling_server.cpp in Go with net/http. GOMAXPROCS says on how many processors it runs.
//
// Usage: server PORT
// See ../../../README.md.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

type item struct {
	Id   int    `json:"id"`
	Name string `json:"name"`
	Sold bool   `json:"sold"`
}

var text = []byte("hello, world\n")

func plaintext(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(text)
}

func items(w http.ResponseWriter, r *http.Request) {
	all := make([]item, 0, 10)
	for i := 0; i < 10; i++ {
		all = append(all, item{i, fmt.Sprintf("item %d", i), i%2 == 0})
	}
	body, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func main() {
	http.HandleFunc("/plaintext", plaintext)
	http.HandleFunc("/json", items)
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
	os.Exit(1)
}
