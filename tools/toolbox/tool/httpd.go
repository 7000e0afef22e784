package tool

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// httpd serves the files below a directory (-h, else the current one) by HTTP on a port (-p, else 8080), one line on
// standard output a request, until it is told to stop.
func httpd(p *Proc) error {
	o, args, err := p.opts("fh:p:", "dir=h", "port=p")
	if err != nil {
		return err
	}
	dir := o.last('h', ".")
	if len(args) > 0 {
		dir = args[0]
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	addr := o.last('p', "8080")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = ":" + addr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Out, "serving %s on %s\n", dir, l.Addr())
	p.Out.Flush()
	// Standard output is a log here: lines of requests that come together must not mix.
	files := http.FileServer(http.Dir(dir))
	line := make(chan string, 64)
	go func() {
		for s := range line {
			fmt.Fprintln(p.Out, s)
			p.Out.Flush()
		}
	}()
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
			files.ServeHTTP(s, r)
			line <- fmt.Sprintf("%s %s %s %d", r.RemoteAddr, r.Method, r.URL.EscapedPath(), s.status)
		}),
	}
	// As the first process of a container it would not end by a signal that it does not handle.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-stop
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}
