package container

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// maxLine is docker's: a longer line is kept in parts, of which the last alone ends in a newline.
	maxLine = 16 << 10
	// logBatch is about how much is written at once.
	logBatch         = 64 << 10
	defaultLogBuffer = 1 << 20
)

// LogPath is the container's newest log file, "" when it keeps none. Older ones have ".1", ".2" … behind.
func (s *Store) LogPath(rec Record) string {
	if rec.Host.Log.Driver == "none" {
		return ""
	}
	return filepath.Join(s.Dir(rec.ID), rec.ID+"-json.log")
}

// logWriter keeps a container's output in docker's json-file form: an object {"log","stream","time"} a line. It is safe
// for use by the copiers of both streams. A disk that is full loses lines, it does not stop the container.
//
// Entries are gathered, and written when a copier has given all that it read. With a bound on what waits
// (mode=non-blocking) another goroutine writes them, and what comes while that much waits is dropped.
type logWriter struct {
	files logFiles
	attrs []byte // what stands with each entry: `,"attrs":{…}`, or nothing
	most  int    // bytes that wait for the disk; 0: whoever writes waits for it

	mu    sync.Mutex
	out   []byte // entries that are not written yet
	stamp []byte // the time of the entries that are being encoded
	// With a bound: wake tells the writing goroutine that there is something to do, done that it has ended.
	wake   *sync.Cond
	closed bool
	done   chan struct{}
}

func openLog(path string, c LogConfig, attrs map[string]string) (*logWriter, error) {
	w := &logWriter{files: logFiles{path: path, maxSize: c.MaxSize, most: c.MaxFiles, compress: c.Compress}}
	if len(attrs) > 0 {
		raw, err := json.Marshal(attrs)
		if err != nil {
			return nil, err
		}
		w.attrs = append([]byte(`,"attrs":`), raw...)
	}
	if err := w.files.open(); err != nil {
		return nil, err
	}
	if c.NonBlocking {
		w.most = cmp.Or(c.MaxBuffer, defaultLogBuffer)
		w.wake, w.done = sync.NewCond(&w.mu), make(chan struct{})
		go w.writeBehind()
	}
	return w, nil
}

// close writes what waits and closes the file.
func (w *logWriter) close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	if w.done != nil {
		w.wake.Signal()
		<-w.done
	}
	return w.files.close()
}

// writeBehind writes what gathers, until the log is closed.
func (w *logWriter) writeBehind() {
	defer close(w.done)
	var spare []byte
	for {
		w.mu.Lock()
		for len(w.out) == 0 && !w.closed {
			w.wake.Wait()
		}
		batch := w.out
		w.out = spare[:0]
		w.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		w.files.write(batch)
		spare = batch
	}
}

// stream splits one of the container's streams into lines for the log.
type stream struct {
	w    *logWriter
	name string
	rest []byte // the beginning of a line whose end has not come
}

// write logs the lines that p completes. Nothing of p is kept but the beginning of a line.
func (s *stream) write(p []byte) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.at(time.Now())
	for len(p) > 0 {
		room := maxLine - len(s.rest)
		end := bytes.IndexByte(p[:min(len(p), room)], '\n') + 1
		if end == 0 && len(p) < room {
			s.rest = append(s.rest, p...)
			break
		}
		if end == 0 {
			end = room
		}
		line := p[:end]
		if len(s.rest) > 0 {
			s.rest = append(s.rest, line...)
			line = s.rest
		}
		p = p[end:]
		cut := len(line) - unfinished(line)
		s.w.line(line[:cut], s.name)
		s.rest = append(s.rest[:0], line[cut:]...)
	}
	s.w.flush()
}

// unfinished is the length of a beginning of a UTF-8 character at the end of p, whose other bytes have yet to come.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if last := p[len(p)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// end logs a last line without a newline.
func (s *stream) end() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if len(s.rest) > 0 {
		s.w.at(time.Now())
		s.w.line(s.rest, s.name)
		s.rest = nil
		s.w.flush()
	}
}

// at sets the time of the entries that follow.
func (w *logWriter) at(t time.Time) { w.stamp = t.UTC().AppendFormat(w.stamp[:0], time.RFC3339Nano) }

// line encodes one line, or a part of a long one.
func (w *logWriter) line(p []byte, stream string) {
	before := len(w.out)
	w.out = append(w.out, `{"log":"`...)
	w.out = appendEscaped(w.out, p)
	w.out = append(w.out, `","stream":"`...)
	w.out = append(w.out, stream...)
	w.out = append(w.out, '"')
	w.out = append(w.out, w.attrs...)
	w.out = append(w.out, `,"time":"`...)
	w.out = append(w.out, w.stamp...)
	w.out = append(w.out, "\"}\n"...)
	switch {
	case w.most == 0 && len(w.out) >= logBatch:
		w.flush()
	case w.most > 0 && before > 0 && len(w.out) > w.most:
		w.out = w.out[:before]
	}
}

// flush has what gathered written.
func (w *logWriter) flush() {
	if w.most > 0 {
		w.wake.Signal()
		return
	}
	w.files.write(w.out)
	w.out = w.out[:0]
	if cap(w.out) > 4*logBatch {
		w.out = nil
	}
}

// plainLength is how long p goes on with bytes that stand for themselves in a JSON string. It looks at eight at a time.
func plainLength(p []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(p); n += 8 {
		x := binary.LittleEndian.Uint64(p[n:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		// A byte's highest bit is set in this if it is below a space, the one or the other, or no ASCII.
		if ((x-ones*' ')&^x|(quote-ones)&^quote|(slash-ones)&^slash|x)&tops != 0 {
			break
		}
	}
	for ; n < len(p); n++ {
		if c := p[n]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return n
}

// appendEscaped appends p as the inside of a JSON string. Bytes that are not UTF-8 become the replacement character.
func appendEscaped(dst, p []byte) []byte {
	const hex = "0123456789abcdef"
	start := 0
	for i := 0; i < len(p); {
		if n := plainLength(p[i:]); n > 0 {
			i += n
			continue
		}
		c := p[i]
		size, repl := 1, ""
		switch {
		case c == '\n':
			repl = `\n`
		case c == '\r':
			repl = `\r`
		case c == '\t':
			repl = `\t`
		case c == '"':
			repl = `\"`
		case c == '\\':
			repl = `\\`
		case c < ' ':
			repl = `\u00` + string([]byte{hex[c>>4], hex[c&15]})
		default:
			var r rune
			if r, size = utf8.DecodeRune(p[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			repl = `\ufffd`
		}
		dst = append(dst, p[start:i]...)
		dst = append(dst, repl...)
		i += size
		start = i
	}
	return append(dst, p[start:]...)
}
