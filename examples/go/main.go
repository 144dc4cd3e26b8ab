// Serves one page that names the release, and /health.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	text, err := os.ReadFile("VERSION")
	if err != nil {
		log.Fatal(err)
	}
	version := strings.TrimSpace(string(text))
	greeting := getenv("GREETING", "Hello from")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%s %s\n", greeting, version)
	})
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	serve(&http.Server{Addr: ":" + getenv("PORT", "5000")})
	log.Printf("%s has answered everyone and ends", version)
}

// Serves until SIGTERM, and returns when all requests in progress have been answered.
func serve(server *http.Server) {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-terminate
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-done
}

func getenv(name, fallback string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return fallback
}
