package layer

import (
	"bytes"
	"strconv"

	"github.com/opencontainers/go-digest"

	"strata/internal/oci"
)

// scanMeta reads the record of a plain layer, as most are, in a tenth of the time of the general decoder, which counts where
// thousands are read. ok is false for any other: implicit directories, compressed forms, anything that it does not know.
func scanMeta(raw []byte) (m Meta, ok bool) {
	m.Content = unknownContent
	s := scanner{rest: bytes.TrimSuffix(raw, []byte("\n"))}
	for s.take("{"); !s.bad; s.take(",") {
		key := s.text()
		s.take(":")
		switch key {
		case "diffID":
			m.DiffID = oci.DiffID(s.text())
		case "size":
			m.Size = s.number()
		case "disk":
			m.Disk = s.number()
		case "entries":
			m.Entries = int(s.number())
		case "content":
			m.Content = s.number()
		case "tree":
			m.Tree = s.number()
		case "form":
			m.Form = s.text()
		case "index":
			m.Index = digest.Digest(s.text())
		case "root":
			m.Root = s.truth()
		case "bootID":
			m.BootID = s.text()
		case "sealed":
			m.Sealed = s.truth()
		case "created":
			s.bad = s.bad || m.Created.UnmarshalText([]byte(s.text())) != nil
		default:
			return Meta{}, false
		}
		if string(s.rest) == "}" {
			return m, !s.bad
		}
	}
	return Meta{}, false
}

// scanner takes values of compact JSON from the front of a text. Once bad it stays so.
type scanner struct {
	rest []byte
	bad  bool
}

func (s *scanner) take(what string) {
	if s.bad = s.bad || !bytes.HasPrefix(s.rest, []byte(what)); !s.bad {
		s.rest = s.rest[len(what):]
	}
}

// text is a string without escapes, in plain ASCII.
func (s *scanner) text() string {
	s.take(`"`)
	end := bytes.IndexByte(s.rest, '"')
	if s.bad = s.bad || end < 0; s.bad {
		return ""
	}
	text := string(s.rest[:end])
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '\\' || c >= 0x7f {
			s.bad = true
		}
	}
	s.rest = s.rest[end+1:]
	return text
}

func (s *scanner) number() int64 {
	end := 0
	for end < len(s.rest) && s.rest[end] >= '0' && s.rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(s.rest[:end]), 10, 64)
	s.bad = s.bad || err != nil || end > 1 && s.rest[0] == '0'
	s.rest = s.rest[end:]
	return n
}

func (s *scanner) truth() bool {
	value := bytes.HasPrefix(s.rest, []byte("true"))
	s.take(strconv.FormatBool(value))
	return value
}
