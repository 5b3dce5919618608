// The server of bench/scaling_server.cpp in Go with net/http and go-sqlite3. GOMAXPROCS says on how many processors it runs, and how many
// connections to the database it has.
//
// Usage: server PORT DATABASE
// See ../../../README.md.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"

	_ "github.com/mattn/go-sqlite3"
)

type item struct {
	Id   int    `json:"id"`
	Name string `json:"name"`
	Sold bool   `json:"sold"`
}

var text = []byte("hello, world\n")

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func plaintext(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(text)
}

func items(w http.ResponseWriter, r *http.Request) {
	all := make([]item, 100)
	for i := range all {
		all[i] = item{i, "item " + strconv.Itoa(i), i%2 == 0}
	}
	body, err := json.Marshal(all)
	check(err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // otherwise an answer of this size goes out in chunks
	_, _ = w.Write(body)
}

func names(database string) http.HandlerFunc {
	db, err := sql.Open("sqlite3", database+"?_mutex=no")
	check(err)
	db.SetMaxOpenConns(runtime.GOMAXPROCS(0))
	db.SetMaxIdleConns(runtime.GOMAXPROCS(0))
	statement, err := db.Prepare("SELECT id, name FROM items WHERE id > ? ORDER BY id LIMIT 50")
	check(err)
	return func(w http.ResponseWriter, r *http.Request) {
		rows, err := statement.Query(500)
		check(err)
		defer rows.Close()
		all := make([]byte, 0, 1024)
		var id int
		var name sql.RawBytes // without a copy
		for rows.Next() {
			check(rows.Scan(&id, &name))
			all = append(append(all, name...), '\n')
		}
		check(rows.Err())
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(all)))
		_, _ = w.Write(all)
	}
}

func main() {
	http.HandleFunc("/plaintext", plaintext)
	http.HandleFunc("/json", items)
	http.HandleFunc("/sqlite", names(os.Args[2]))
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
	os.Exit(1)
}
