package render

// maxLine bounds what is held of a log line that does not end, in bytes; a longer one is shown in pieces.
const maxLine = 64 << 10

// lineReader makes lines of log bytes that are cut anywhere. Of a line that a program rewrote with carriage returns (a
// progress bar) only what stood there last is kept, as on a terminal.
type lineReader struct {
	line     []byte
	returned bool // a carriage return came and nothing after it yet
}

// add calls emit with every line that data completes.
func (l *lineReader) add(data []byte, emit func(string)) {
	for _, c := range data {
		if c == '\n' {
			l.flush(emit)
			continue
		}
		if l.returned {
			l.line, l.returned = l.line[:0], false
		}
		if c == '\r' {
			l.returned = true
			continue
		}
		if l.line = append(l.line, c); len(l.line) >= maxLine {
			l.flush(emit)
		}
	}
}

// flush calls emit with the line so far, empty as it may be.
func (l *lineReader) flush(emit func(string)) {
	emit(string(l.line))
	l.line, l.returned = l.line[:0], false
}

// end calls emit with what is left, if something is.
func (l *lineReader) end(emit func(string)) {
	if len(l.line) > 0 {
		l.flush(emit)
	}
}

// streams reads the lines of a vertex's two streams apart.
type streams [2]lineReader

func (s *streams) add(stream int, data []byte, emit func(string)) {
	if stream == 2 {
		s[1].add(data, emit)
		return
	}
	s[0].add(data, emit)
}

func (s *streams) end(emit func(string)) {
	s[0].end(emit)
	s[1].end(emit)
}
