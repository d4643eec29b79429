// Command gateway is a plain gRPC server on eudai's contract in front of Ollama, as one usually
// writes it in Go: one message for each token, no queue, no checks. The benchmark compares eudai
// with it.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"strings"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const idleConnectionsMax = 1024

func main() {
	log.SetFlags(0)
	address := flag.String("listen", "127.0.0.1:50051", "`host:port` to listen at")
	ollama := flag.String("ollama", "http://127.0.0.1:11434", "the `URL` of Ollama")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatalf("-listen: %v", err)
	}
	log.Printf("listening on %s", listener.Addr())
	log.Fatal(newServer(*ollama).Serve(listener))
}

func newServer(ollama string) *grpc.Server {
	transport := &http.Transport{
		MaxIdleConnsPerHost: idleConnectionsMax,
		DisableCompression:  true,
	}
	server := grpc.NewServer()
	eudaiv1.RegisterGenerationServiceServer(server, &gateway{
		client: &http.Client{Transport: transport},
		url:    strings.TrimSuffix(ollama, "/"),
	})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}
