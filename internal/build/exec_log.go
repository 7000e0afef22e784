package build

import (
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"strata/internal/progress"
)

// logSink writes what steps print into a file each, and passes every event on.
type logSink struct {
	dir  string
	next progress.Sink

	mu    sync.Mutex
	files map[string]*os.File // nil for one that could not be made
}

func newLogSink(dir string, next progress.Sink) *logSink {
	return &logSink{dir: dir, next: next, files: map[string]*os.File{}}
}

// Emit keeps the output of a step. A log that cannot be written does not fail the build.
func (l *logSink) Emit(e progress.Event) {
	l.next.Emit(e)
	switch e.State {
	case progress.Log:
		l.write(e)
	case progress.Done, progress.Failed, progress.Canceled:
		l.end(e.Vertex)
	}
}

func (l *logSink) write(e progress.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, open := l.files[e.Vertex]
	if !open {
		f = l.create(e.Vertex)
		l.files[e.Vertex] = f
	}
	if f != nil {
		_, _ = f.Write(e.Data) // a log that cannot be written does not fail the build
	}
}

func (l *logSink) create(vertex string) *os.File {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(l.dir, url.PathEscape(vertex)+".log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil
	}
	return f
}

func (l *logSink) end(vertex string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.files[vertex]; f != nil {
		f.Close()
	}
	delete(l.files, vertex)
}

func (l *logSink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f != nil {
			f.Close()
		}
	}
}
