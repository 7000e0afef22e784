package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
)

// sessions is the part of a registry that takes uploads, as the specification has it: what of a request's body arrived
// before its connection broke counts, and can be asked for. It breaks a connection when cutAt bytes have come, and then at
// each further step bytes, as often as cuts says.
type sessions struct {
	turn    sync.Mutex // a body that still comes from a client that has gone is read before the next client learns how much has come
	mu      sync.Mutex
	opened  int
	got     map[string][]byte // by session
	blobs   map[digest.Digest][]byte
	counted int64 // bytes of bodies
	step    int64
	cuts    int
	forgets bool   // a session ends with its connection
	claims  string // what Range says instead of the truth
	lost    int    // answers to a PUT that get lost, after it was done
}

func newSessions() *sessions {
	return &sessions{got: map[string][]byte{}, blobs: map[digest.Digest][]byte{}}
}

func (s *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("session")
	switch r.Method {
	case http.MethodHead:
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.blobs[digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])]; !ok {
			w.WriteHeader(http.StatusNotFound)
		}
	case http.MethodPost:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened++
		id = fmt.Sprint(s.opened)
		s.got[id] = []byte{}
		s.answer(w, id, http.StatusAccepted)
	case http.MethodGet:
		s.turn.Lock()
		defer s.turn.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answer(w, id, http.StatusNoContent)
	default:
		s.turn.Lock()
		defer s.turn.Unlock()
		s.take(w, r, id)
	}
}

// answer says where the session goes on.
func (s *sessions) answer(w http.ResponseWriter, id string, status int) {
	got, ok := s.got[id]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		return
	}
	w.Header().Set("Location", "/v2/app/blobs/uploads/x?session="+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(got)-1, 0)))
	if s.claims != "" {
		w.Header().Set("Range", s.claims)
	}
	w.WriteHeader(status)
}

// take reads a body. The bytes are kept as they come.
func (s *sessions) take(w http.ResponseWriter, r *http.Request, id string) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Body.Read(buf)
		s.mu.Lock()
		s.counted += int64(n)
		s.got[id] = append(s.got[id], buf[:n]...)
		cut := s.cuts > 0 && s.counted >= s.step
		if cut {
			s.cuts--
			s.step += s.step
			if s.forgets {
				delete(s.got, id)
			}
		}
		s.mu.Unlock()
		if cut || err != nil && err != io.EOF {
			panic(http.ErrAbortHandler)
		}
		if err == io.EOF {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPatch {
		s.answer(w, id, http.StatusAccepted)
		return
	}
	d := digest.Digest(r.URL.Query().Get("digest"))
	if digest.FromBytes(s.got[id]) != d {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "not that blob")
		return
	}
	s.blobs[d] = s.got[id]
	delete(s.got, id)
	if s.lost--; s.lost >= 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusCreated)
}

// note is an UploadLog in memory.
type note struct{ place string }

func (n *note) Last() string            { return n.place }
func (n *note) Note(place string) error { n.place = place; return nil }

// skipper is a Skipper of bytes in memory.
type skipper struct{ *bytes.Reader }

func (s skipper) Skip(n int64) error {
	_, err := s.Seek(n, io.SeekStart)
	return err
}

func (skipper) Close() error { return nil }

// TestUploadGoesOn breaks uploads three times and counts what is sent.
func TestUploadGoesOn(t *testing.T) {
	blob := random(16 << 20)
	for name, c := range map[string]struct {
		set    func(s *sessions)
		opened int
		most   int64 // percent of the blob that is sent
	}{
		"not broken":                    {func(*sessions) {}, 1, 100},
		"broken three times":            {func(s *sessions) { s.cuts, s.step = 3, 2<<20 }, 1, 105},
		"sessions end with connections": {func(s *sessions) { s.cuts, s.step, s.forgets = 1, 2<<20, true }, 2, 120},
		"it claims more than there is":  {func(s *sessions) { s.cuts, s.step, s.claims = 1, 2<<20, "0-999999999" }, 2, 120},
		"it claims less than it has":    {func(s *sessions) { s.cuts, s.step, s.claims = 1, 2<<20, "0-9" }, 2, 220},
		"it says nothing of use":        {func(s *sessions) { s.cuts, s.step, s.claims = 1, 2<<20, "all of it" }, 2, 120},
		"the last answer is lost":       {func(s *sessions) { s.lost = 1 }, 1, 100},
	} {
		for how, put := range map[string]func(c *Client, host string) error{
			"put": func(c *Client, host string) error {
				return c.PutBlob(t.Context(), parse(t, host+"/app"), descriptor(blob), opener(blob))
			},
			"put, skipping": func(c *Client, host string) error {
				return c.PutBlob(t.Context(), parse(t, host+"/app"), descriptor(blob), func() (io.ReadCloser, error) { return skipper{bytes.NewReader(blob)}, nil })
			},
			"stream": func(c *Client, host string) error {
				d, n, err := c.StreamBlob(t.Context(), parse(t, host+"/app"), func(w io.Writer) error { _, err := w.Write(blob); return err })
				if err == nil && (d != digest.FromBytes(blob) || n != int64(len(blob))) {
					return fmt.Errorf("digest %s, size %d", d, n)
				}
				return err
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				s := newSessions()
				c.set(s)
				if err := put(newClient(t), serve(t, s)); err != nil {
					t.Fatal(err)
				}
				if _, ok := s.blobs[digest.FromBytes(blob)]; !ok || s.opened != c.opened {
					t.Errorf("it has it: %v, after %d sessions", ok, s.opened)
				}
				if percent := s.counted * 100 / int64(len(blob)); percent > c.most {
					t.Errorf("%d %% of the blob were sent", percent)
				}
			})
		}
	}
}

// TestUploadGoesOnElsewhere ends an upload on our side, as a killed process does; another client goes on.
func TestUploadGoesOnElsewhere(t *testing.T) {
	blob := random(16 << 20)
	s, log := newSessions(), &note{}
	ref := parse(t, serve(t, s)+"/app")
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var written atomic.Int64
		d, _, err := newClient(t).ResumeBlob(ctx, ref, log, func(w io.Writer) error {
			for rest := blob; len(rest) > 0; rest = rest[min(len(rest), 64<<10):] {
				if i < 2 && written.Add(64<<10) > int64(i+1)*6<<20 {
					cancel()
				}
				if _, err := w.Write(rest[:min(len(rest), 64<<10)]); err != nil {
					return err
				}
			}
			return nil
		})
		cancel()
		if i < 2 && (!errors.Is(err, context.Canceled) || log.place == "") || i == 2 && (err != nil || log.place != "" || d != digest.FromBytes(blob)) {
			t.Errorf("%d: %v, noted %q", i, err, log.place)
		}
	}
	if s.opened != 1 || s.counted > int64(len(blob))*105/100 || !bytes.Equal(s.blobs[digest.FromBytes(blob)], blob) {
		t.Errorf("%d sessions, %d bytes sent of a blob of %d", s.opened, s.counted, len(blob))
	}
	// What was noted of another host is not asked.
	log.place = "http://elsewhere.example/upload"
	if _, _, err := newClient(t).ResumeBlob(t.Context(), ref, log, func(w io.Writer) error { _, err := w.Write(blob[:9]); return err }); err != nil || s.opened != 2 {
		t.Errorf("%v, %d sessions", err, s.opened)
	}
	full := errors.New("disk full")
	if _, _, err := newClient(t).ResumeBlob(t.Context(), ref, fullLog{full}, nil); !errors.Is(err, full) || errors.Is(err, errdef.ErrUnavailable) {
		t.Error(err)
	}
}

type fullLog struct{ err error }

func (fullLog) Last() string        { return "" }
func (l fullLog) Note(string) error { return l.err }

// TestUploadGoesOnUnreached breaks an upload when for a while nobody can be asked how much has come: nothing is sent until somebody
// has told.
func TestUploadGoesOnUnreached(t *testing.T) {
	blob := random(4 << 20)
	s := newSessions()
	s.cuts, s.step = 1, 2<<20
	var asked atomic.Int32
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && asked.Add(1) <= maxRetries+1 {
			panic(http.ErrAbortHandler)
		}
		s.ServeHTTP(w, r)
	}))
	if _, _, err := newClient(t).StreamBlob(t.Context(), parse(t, host+"/app"), func(w io.Writer) error { _, err := w.Write(blob); return err }); err != nil {
		t.Fatal(err)
	}
	if s.opened != 1 || s.counted > int64(len(blob))*105/100 {
		t.Errorf("%d sessions, %d bytes sent of a blob of %d", s.opened, s.counted, len(blob))
	}
	// So it is with what an earlier process has sent.
	s.got["9"], s.counted, s.opened = bytes.Clone(blob[:3<<20]), 0, 0
	asked.Store(0)
	log := &note{"http://" + host + "/v2/app/blobs/uploads/x?session=9"}
	if _, _, err := newClient(t).ResumeBlob(t.Context(), parse(t, host+"/app"), log, func(w io.Writer) error { _, err := w.Write(blob); return err }); err != nil {
		t.Fatal(err)
	}
	if s.opened != 0 || s.counted != 1<<20 {
		t.Errorf("%d sessions, %d bytes sent of a rest of %d", s.opened, s.counted, 1<<20)
	}
}
