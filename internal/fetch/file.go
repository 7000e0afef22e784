package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/progress"
)

// File is a fetched file. It stays readable until it is closed, whatever becomes of the cache.
type File struct {
	// F is open for reading: mode 0600, and the time that the server gives it, or 1970.
	F *os.File
	// Digest of the content.
	Digest digest.Digest
}

// Close gives the descriptor back.
func (f *File) Close() error { return f.F.Close() }

// IsURL reports whether a source is a file that is fetched by HTTP. Ask [ParseRepo] first: some repositories look like one.
func IsURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// FileName is what the file of a URL is called: the last part of its path, as BuildKit has it, or "__unnamed__".
func FileName(source string) string {
	const unnamed, unsafe = "__unnamed__", "download"
	u, err := url.Parse(source)
	if err != nil {
		return unnamed
	}
	name := path.Base(u.Path)
	switch {
	case name == "." || name == "/":
		return unnamed
	case name == ".." || strings.ContainsFunc(name, unicode.IsControl):
		return unsafe
	}
	return name
}

// record is meta.json: what is known of the file that is kept.
type record struct {
	ETag         string        `json:"etag,omitempty"`
	LastModified string        `json:"lastModified,omitempty"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	// By these the file is known for the one that was hashed.
	Inode uint64 `json:"inode"`
	Mtime int64  `json:"mtime"`
	Ctime int64  `json:"ctime"`
}

const (
	recordName = "meta.json"
	dataPrefix = "data-"
	partName   = "part"
	maxRecord  = 64 << 10
)

// File gives the file of a URL. With a digest in want a kept file that has it is given without asking the server, and
// another one is refused: errdef.ErrCorrupt. Without one the server is asked whether what is kept still holds.
func (c *Cache) File(ctx context.Context, source string, want digest.Digest) (*File, error) {
	f, err := c.file(ctx, source, want)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Redact(source), err)
	}
	return f, nil
}

func (c *Cache) file(ctx context.Context, source string, want digest.Digest) (*File, error) {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("no URL of a file: %w", errdef.ErrInvalid)
	}
	if want != "" && want.Validate() != nil {
		return nil, fmt.Errorf("checksum %q: want sha256: and 64 hexadecimal digits: %w", want, errdef.ErrInvalid)
	}
	auth := c.authorization(u)
	name := source
	if auth != "" {
		name += " with authorization"
	}
	dir := c.place(urlDir, name)
	lock, err := c.lock(ctx, dir, source)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	d := &download{cache: c, dir: dir, source: source, auth: auth, want: want}
	return d.get(ctx)
}

// download is one file's way into the cache, under the lock of its directory.
type download struct {
	cache             *Cache
	dir, source, auth string
	want              digest.Digest
	task              *progress.Task
}

func (d *download) get(ctx context.Context) (f *File, err error) {
	kept, known := d.kept()
	if known != nil && d.want != "" && known.Digest == d.want {
		return kept, nil
	}
	d.task = progress.Begin(d.cache.Sink, "fetch "+Redact(d.source), "[fetch] "+Redact(d.source))
	d.task.Note = "downloading"
	same := false
	defer func() { d.task.End(ctx, same, err) }()
	if d.want != "" && known != nil { // an answer that it has not changed would be of no use
		kept.Close()
		kept, known = nil, nil
	}
	t := &transfer{download: d, client: newClient(), known: known}
	same, err = t.run(ctx)
	t.client.CloseIdleConnections()
	if same {
		return kept, nil
	}
	if kept != nil {
		kept.Close()
	}
	if err != nil {
		os.Remove(filepath.Join(d.dir, partName))
		return nil, err
	}
	return d.publish(t)
}

// kept opens the file that is kept, if it is the one that was hashed.
func (d *download) kept() (*File, *record) {
	raw, err := os.ReadFile(filepath.Join(d.dir, recordName))
	if err != nil || len(raw) > maxRecord {
		return nil, nil
	}
	var r record
	if json.Unmarshal(raw, &r) != nil || r.Digest.Validate() != nil {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(d.dir, dataPrefix+r.Digest.Encoded()))
	if err != nil {
		return nil, nil
	}
	now := record{ETag: r.ETag, LastModified: r.LastModified, Digest: r.Digest}
	if err := now.identify(f); err != nil || now != r {
		f.Close()
		return nil, nil
	}
	return &File{f, r.Digest}, &r
}

// identify takes from f by what it is known again.
func (r *record) identify(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	r.Size, r.Inode, r.Mtime, r.Ctime = st.Size, st.Ino, st.Mtim.Nano(), st.Ctim.Nano()
	return nil
}

// publish makes the finished part the file that is kept. The record comes last: what it does not name is no file.
func (d *download) publish(t *transfer) (*File, error) {
	part := filepath.Join(d.dir, partName)
	r := record{ETag: t.header.Get("ETag"), LastModified: t.header.Get("Last-Modified"), Digest: t.sum}
	mtime := time.Unix(0, 0)
	if at, err := http.ParseTime(r.LastModified); err == nil {
		mtime = at
	}
	if err := os.Chtimes(part, mtime, mtime); err != nil {
		return nil, err
	}
	name := filepath.Join(d.dir, dataPrefix+r.Digest.Encoded())
	if err := os.Rename(part, name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	err = r.identify(f)
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(r)
	}
	if err == nil && len(raw) <= maxRecord {
		err = atomicfile.WriteDurable(filepath.Join(d.dir, recordName), raw, 0o600)
	}
	if err == nil {
		err = d.tidy(filepath.Base(name))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &File{f, r.Digest}, nil
}

// tidy removes all files but the record and data.
func (d *download) tidy(data string) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == data || e.Name() == recordName {
			continue
		}
		if err := os.Remove(filepath.Join(d.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// verify checks the digest that was asked for. Another algorithm than ours takes another look at the file.
func (d *download) verify(part *os.File, sum digest.Digest) error {
	if d.want == "" || d.want == sum {
		return nil
	}
	got := sum
	if algorithm := d.want.Algorithm(); algorithm != sum.Algorithm() {
		if _, err := part.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var err error
		if got, err = algorithm.FromReader(part); err != nil {
			return err
		}
		if got == d.want {
			return nil
		}
	}
	return errdef.WithHint(fmt.Errorf("digest mismatch: got %s, want %s: %w", got, d.want, errdef.ErrCorrupt),
		"if the file may have changed: --checksum="+got.String())
}
