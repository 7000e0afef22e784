package remote

import (
	"io"
	"sync"
)

// paneSize is how much of a blob is held in one piece.
const paneSize = 256 << 10

type pane [paneSize]byte

// window is a [Spool] in memory, of a blob that is read once and in its order: what has been read is forgotten. Whoever writes
// into it keeps near its reader.
type window struct {
	base, size int64 // of the first pane, and of the blob
	pool       *sync.Pool

	mu    sync.Mutex
	panes map[int64]*pane // by their number from base on
}

// at gives the rest of the pane that has byte off.
func (w *window) at(off int64) []byte {
	n := (off - w.base) / paneSize
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.panes[n]
	if p == nil {
		p = w.pool.Get().(*pane)
		w.panes[n] = p
	}
	return p[(off-w.base)%paneSize:]
}

// WriteAt keeps bytes until they are read.
func (w *window) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		n += copy(w.at(off+int64(n)), p[n:])
	}
	return n, nil
}

// ReadAt gives bytes that have been written, and forgets all panes that end before the next one.
func (w *window) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < w.size {
		most := min(int64(len(p)-n), w.size-off)
		read := copy(p[n:n+int(most)], w.at(off))
		n, off = n+read, off+int64(read)
		if (off-w.base)%paneSize == 0 {
			w.forget((off-w.base)/paneSize - 1)
		}
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (w *window) forget(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pool.Put(w.panes[n])
	delete(w.panes, n)
}

// Done has nothing to note: nobody goes on with what is in memory.
func (*window) Done(int64, int64) error { return nil }

// Gap is all that follows: what is asked for once is asked for once only.
func (w *window) Gap(from int64) (start, end int64) { return from, w.size }
