// Command notes serves notes, written in Markdown, as pages.
//
//	notes [-listen ADDRESS] [-file FILE]   serves the notes in a file
//	notes [-to URL] load FILE...           sends files to a server, each as a note
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// version is set when the program is linked.
var version = "unknown"

func main() {
	listen := flag.String("listen", ":8080", "address to listen at")
	file := flag.String("file", "/data/notes", "where the notes are")
	to := flag.String("to", "http://127.0.0.1:8080", "server to send notes to")
	flag.Parse()
	var err error
	if flag.Arg(0) == "load" {
		for _, name := range flag.Args()[1:] {
			if err == nil {
				err = load(*to, name)
			}
		}
	} else {
		err = serve(*listen, *file)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(listen, file string) error {
	notes, err := open(file)
	if err != nil {
		return err
	}
	defer notes.close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: listen, Handler: handler(notes), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	log.Printf("notes %s at %s", version, listen)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
