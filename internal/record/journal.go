package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// MaxLine is the most bytes that a line of a journal may have.
const MaxLine = 64 << 10

const (
	journalSuffix   = ".jsonl"
	journalFileSize = 1 << 20
	journalFiles    = 8
)

// Journal is an append-only log of lines in a directory, which many processes write and read at once:
//
//	<dir>/<number>.jsonl    a file of lines; the highest number is the one that is written
//
// A line is one write(2) to a file opened with O_APPEND, so lines never mix. It is not flushed: a power cut may lose the last
// ones, and a full disk or a killed writer may leave a torn one, which readers skip. A file that is full is followed by a new
// one, never renamed, and the oldest goes: a journal takes at most a few megabytes.
type Journal struct {
	dir string
	// fileSize is how large a file may become, files how many are kept.
	fileSize int64
	files    int
}

// OpenJournal names the journal in dir. Nothing is made before the first line.
func OpenJournal(dir string) *Journal {
	return &Journal{dir: dir, fileSize: journalFileSize, files: journalFiles}
}

// Append writes one line; a newline at its end is not needed. The line must not be empty nor hold newlines.
func (j *Journal) Append(line []byte) error {
	if len(line) == 0 || len(line) >= MaxLine || slices.Contains(line, '\n') {
		return fmt.Errorf("journal %s: line of %d bytes: %w", j.dir, len(line), errdef.ErrInvalid)
	}
	f, err := j.last(int64(len(line)))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	text := make([]byte, 0, len(line)+2)
	if torn(f) {
		text = append(text, '\n')
	}
	if _, err := f.Write(append(append(text, line...), '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// last opens the file to write into: the newest, or a new one when more bytes do not fit.
func (j *Journal) last(more int64) (*os.File, error) {
	numbers, err := j.numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return nil, err
		}
		return j.create(1)
	}
	newest := numbers[len(numbers)-1]
	f, err := os.OpenFile(j.file(newest), os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) { // the whole journal was removed meanwhile, or we slept through many files
		return j.create(newest)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()+more <= j.fileSize {
		return f, nil
	}
	f.Close()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers[:max(0, len(numbers)+1-j.files)] {
		os.Remove(j.file(n)) // what cannot be removed now is so at the next time
	}
	return j.create(newest + 1)
}

// create opens the file of that number; of several writers that come at once each gets the same.
func (j *Journal) create(n uint64) (*os.File, error) {
	return os.OpenFile(j.file(n), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
}

// torn reports whether the file ends inside a line. What a slow writer is just adding may be taken for that: the newline
// too many is nothing to a reader.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

func (j *Journal) file(n uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d%s", n, journalSuffix))
}

// numbers lists the journal's files, oldest first.
func (j *Journal) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), journalSuffix)
		if n, err := strconv.ParseUint(digits, 10, 63); ok && err == nil && j.file(n) == filepath.Join(j.dir, e.Name()) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
