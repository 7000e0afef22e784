package container

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
)

const (
	defaultLogSize  = 10 << 20
	defaultLogFiles = 3
	// zipped is behind the name of a compressed log file.
	zipped = ".gz"
)

// logFiles are the files of one log, of which the newest is written. They are for one goroutine at a time.
type logFiles struct {
	path     string
	maxSize  int64 // of one file; 0 is the default, negative no bound
	most     int   // so many files are kept; 0 is the default
	compress bool  // the older ones

	f    *os.File
	size int64
	// While an older file is being compressed: quit ends that, pressed is closed at its end.
	quit, pressed chan struct{}
}

func (l *logFiles) open() error {
	l.maxSize, l.most = cmp.Or(l.maxSize, defaultLogSize), cmp.Or(max(l.most, 0), defaultLogFiles)
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("container log: %w", err)
	}
	l.f, l.size = f, info.Size()
	return nil
}

func (l *logFiles) close() error {
	if l.quit != nil {
		close(l.quit)
		<-l.pressed
	}
	return l.f.Close()
}

// write adds whole entries, each to a file that has room for it. What the disk does not take is lost.
func (l *logFiles) write(p []byte) {
	for len(p) > 0 {
		n := l.fitting(p)
		if n == 0 {
			l.rotate()
			n = max(l.fitting(p), bytes.IndexByte(p, '\n')+1)
		}
		l.put(p[:n])
		p = p[n:]
	}
}

// fitting is how much of the entries in p has room in the newest file; an empty file has room for any entry.
func (l *logFiles) fitting(p []byte) int {
	room := l.maxSize - l.size
	if l.maxSize < 0 || int64(len(p)) <= room {
		return len(p)
	}
	n := bytes.LastIndexByte(p[:max(room, 0)], '\n') + 1
	if n == 0 && l.size == 0 {
		n = bytes.IndexByte(p, '\n') + 1
	}
	return n
}

func (l *logFiles) put(p []byte) {
	n, err := l.f.Write(p)
	if err != nil && n > 0 {
		// Half an entry would make the next one unreadable.
		whole := bytes.LastIndexByte(p[:n], '\n') + 1
		if l.f.Truncate(l.size+int64(whole)) == nil {
			n = whole
		}
	}
	l.size += int64(n)
}

// rotate makes the newest file the first of the old ones. When a name cannot be changed the log goes on in the same file.
func (l *logFiles) rotate() {
	if l.pressed != nil {
		<-l.pressed // names are not to change under it
		l.quit, l.pressed = nil, nil
	}
	for i := l.most - 2; i >= 0; i-- {
		l.shift(i)
	}
	if l.most == 1 {
		os.Remove(l.path)
	}
	old := l.f
	if err := l.open(); err != nil {
		return
	}
	old.Close()
	if l.compress && l.most > 1 {
		l.quit, l.pressed = make(chan struct{}), make(chan struct{})
		go press(rotated(l.path, 1), l.quit, l.pressed)
	}
}

// shift makes the i-th newest file the next older one, in whichever form it is.
func (l *logFiles) shift(i int) {
	from, to := rotated(l.path, i), rotated(l.path, i+1)
	if _, err := os.Lstat(from); err == nil {
		os.Remove(from + zipped) // it was being made when its maker was killed
		if os.Rename(from, to) == nil {
			os.Remove(to + zipped)
		}
	} else if os.Rename(from+zipped, to+zipped) == nil {
		os.Remove(to)
	}
}

// rotated is the name of the i-th newest log file.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// logNumbers are those of the files that there are, the newest first. While they are rotated, or where that was cut short, one in
// the middle is missing.
func logNumbers(path string) (numbers []int, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("container log: %w", err)
	}
	base := filepath.Base(path)
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), zipped)
		n, _ := strconv.Atoi(strings.TrimPrefix(name, base+".")) // 0 is no number of an older one
		if name == rotated(base, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// press replaces a log file by its compressed form, unless quit is closed before or the disk is full: then it stays as it is. done is closed at the end.
func press(path string, quit <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	if compressFile(path, quit) == nil {
		os.Remove(path)
	} else {
		os.Remove(path + zipped)
	}
}

var errQuit = errors.New("the log is closed")

// compressFile writes path's compressed form beside it. As long as both are there it is path that counts.
func compressFile(path string, quit <-chan struct{}) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path+zipped, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	z := gzip.NewWriter(out)
	z.Comment, z.ModTime = origin(info), info.ModTime()
	buf := make([]byte, 32<<10)
	for {
		select {
		case <-quit:
			return errQuit
		default:
		}
		n, err := in.Read(buf)
		if _, werr := z.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(z.Close(), out.Close())
}

// origin tells of a compressed file which file it was, for a reader that has that one open: as long as it is open no other
// gets its number.
func origin(info os.FileInfo) string {
	return "inode " + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
}

// logFile is one file of a log, open for reading.
type logFile struct {
	f    *os.File
	info os.FileInfo
	z    *gzip.Reader // nil for a plain one
	in   *bufio.Reader
}

// openLogFile opens the i-th newest file, which may be compressed.
func openLogFile(path string, i int) (*logFile, error) {
	f, err := os.Open(rotated(path, i))
	compressed := errors.Is(err, os.ErrNotExist)
	if compressed {
		f, err = os.Open(rotated(path, i) + zipped)
	}
	if err != nil {
		return nil, err
	}
	l := &logFile{f: f}
	if l.info, err = f.Stat(); err == nil && compressed {
		l.z, err = gzip.NewReader(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("container log: %s: %w", f.Name(), err)
	}
	l.in = bufio.NewReaderSize(l, 64<<10)
	return l, nil
}

func (l *logFile) Read(p []byte) (int, error) {
	if l.z != nil {
		return l.z.Read(p)
	}
	return l.f.Read(p)
}

// is reports whether l is the file o, or was before it was compressed.
func (l *logFile) is(o *logFile) bool {
	return os.SameFile(l.info, o.info) || l.z != nil && o.z == nil && l.z.Comment == origin(o.info)
}

// last goes to where the last n entries begin; left is how many of n the file does not have.
func (l *logFile) last(n int) (left int, err error) {
	if l.z == nil {
		offset, left, err := tailOffset(l.f, n)
		if err == nil {
			_, err = l.f.Seek(offset, io.SeekStart)
		}
		return left, err
	}
	total, err := l.skip(-1)
	if err != nil || n == 0 {
		return 0, err
	}
	if _, err := l.f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if err := l.z.Reset(l.f); err != nil {
		return 0, err
	}
	l.in.Reset(l)
	_, err = l.skip(max(0, total-n))
	return max(0, n-total), err
}

// skip passes over so many entries, a negative number is all, and gives how many there were.
func (l *logFile) skip(n int) (passed int, err error) {
	for passed != n {
		_, err := l.in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			passed++
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			return passed, err
		}
	}
	return passed, nil
}
