package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	greeting := os.Getenv("GREETING")
	if greeting == "" {
		log.Fatal("GREETING is not set")
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, greeting)
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(6 * time.Second)
		fmt.Fprint(w, greeting)
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT")}

	asked := make(chan os.Signal, 8)
	signal.Notify(asked, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		<-asked
		log.Print("SIGTERM: shutting down")
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
		close(ended)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
