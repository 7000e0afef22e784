package graph

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"slices"
	"strconv"

	"strata/internal/oci"
)

// salt goes into every key. A change in what the lines of any op mean takes a new number here, and nothing cached before
// is found again.
const salt = "strata graph 2"

// Line is one named part of a key. Name and value are for people too: {"build argument VERSION", "1"},
// {"file package.json", "0644 sha256:…"}. Names of files stand after "file ", "directory " or "link ".
type Line struct {
	Name  string `json:"n"`
	Value string `json:"v"`
}

// Key is the sha256 of a list of lines, 64 hexadecimal digits.
type Key string

// KeyOf hashes lines in their order, each text after its length.
func KeyOf(lines []Line) Key {
	h := sha256.New()
	put(h, salt)
	for _, l := range lines {
		put(h, l.Name)
		put(h, l.Value)
	}
	return Key(hex.EncodeToString(h.Sum(nil)))
}

func put(h hash.Hash, text string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(text)))
	h.Write(n[:])
	_, _ = io.WriteString(h, text) // a hash takes everything
}

// valid reports whether k can be a key, and so a file name.
func (k Key) valid() bool { return len(k) == 64 && oci.IsHex(string(k)) }

const inputName = "input "

// withInputs adds to an op's lines one for the result of each input but those in less.
func withInputs(lines []Line, inputs []json.RawMessage, less []int) []Line {
	all := make([]Line, 0, len(lines)+len(inputs))
	all = append(all, lines...)
	for i, result := range inputs {
		if slices.Contains(less, i) {
			continue
		}
		sum := sha256.Sum256(result)
		all = append(all, Line{inputName + strconv.Itoa(i), "sha256:" + hex.EncodeToString(sum[:])})
	}
	return all
}

// contentKey is the key of a step of which content decides.
func contentKey(definition Key, content []Line) Key {
	all := make([]Line, 0, len(content)+1)
	all = append(all, Line{"definition", string(definition)})
	return KeyOf(append(all, content...))
}
