// Command fakeollama answers like an Ollama that generates tokens on a schedule, at little cost.
//
// The prompt of a request is a script; see wire.Script. Each token has its number and the time at
// which it was written. GET /counts reports what happened.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

const headersTimeout = 10 * time.Second

func main() {
	log.SetFlags(0)
	address := flag.String("listen", "127.0.0.1:11434", "`host:port` to listen at")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatalf("-listen: %v", err)
	}
	log.Printf("listening on %s", listener.Addr())
	server := &http.Server{Handler: newHandler(), ReadHeaderTimeout: headersTimeout}
	log.Fatal(server.Serve(listener))
}

func newHandler() http.Handler {
	var g generator
	mux := http.NewServeMux()
	for route, body := range catalog {
		mux.HandleFunc(route, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
	}
	mux.HandleFunc("POST /api/generate", g.handler(generateFormat))
	mux.HandleFunc("POST /api/chat", g.handler(chatFormat))
	mux.HandleFunc("POST /v1/chat/completions", g.handler(openAIFormat))
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(g.counts.report())
	})
	return mux
}
