package layer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// mixed makes data of which some compresses well at any level, some only with effort, and some not at all.
func mixed(n int) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	words := make([][]byte, 3000)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", random.Uint64N(1<<(4+random.Uint64N(50))))
	}
	data := make([]byte, 0, n+64)
	for len(data) < n {
		switch kind := len(data) >> 22 % 3; kind {
		case 0:
			data = append(data, words[random.IntN(len(words))]...)
		case 1:
			data = append(data, byte(random.Uint32()))
		default:
			data = append(data, words[random.IntN(100)]...)
		}
	}
	return data[:n]
}

func pressed(t *testing.T, form pieceForm, threads, step int, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := newPieceWriter(&out, form, threads)
	for at := 0; at < len(data) && err == nil; at += step {
		_, err = w.Write(data[at:min(at+step, len(data))])
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is compressed depends neither on the number of threads, nor on how it is written, and other programs' readers give it back.
func TestPieces(t *testing.T) {
	small := func(f pieceForm) pieceForm { // many pieces, so that levels are tried and gone by
		f.size = 64 << 10
		return f
	}
	type format struct {
		pieceForm
		open func(io.Reader) (io.Reader, error)
	}
	unzstd := func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }
	forms := map[string]format{
		Gzip: {gzipForm(0), func(r io.Reader) (io.Reader, error) {
			z, err := gzip.NewReader(r)
			if err == nil {
				z.Multistream(false)
			}
			return z, err
		}},
		Zstd: {zstdForm(0, ""), unzstd},
	}
	if program, err := exec.LookPath(ZstdProgram); err == nil {
		for _, level := range []int{0, 1, 3, 5} {
			forms[fmt.Sprintf("%s %d", ZstdProgram, level)] = format{zstdForm(level, program), unzstd}
		}
	}
	for name, f := range forms {
		for many, form := range map[int]pieceForm{2: f.pieceForm, 40: small(f.pieceForm)} {
			for _, n := range []int{0, 1, form.size - 1, form.size, form.size + 1, 3 * form.size, many*form.size + 5} {
				data := mixed(n)
				one := pressed(t, form, 1, 1<<20, data)
				for threads, step := range map[int]int{2: 32 << 10, 3: 7777, 8: 3 << 20} {
					if !bytes.Equal(one, pressed(t, form, threads, step, data)) {
						t.Errorf("%s: %d bytes in pieces of %d: %d threads give other bytes than one", name, n, form.size, threads)
					}
				}
				r, err := f.open(bytes.NewReader(one))
				if err != nil {
					t.Fatalf("%s: %d bytes: %v", name, n, err)
				}
				if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, data) {
					t.Errorf("%s: %d bytes in pieces of %d: %d come back, %v", name, n, form.size, len(back), err)
				}
			}
		}
	}
}

// The quick level is taken where it costs little, and only there.
func TestPiecesLevels(t *testing.T) {
	form := gzipForm(0)
	form.size = 32 << 10 // many pieces
	quick, usual := form, form
	quick.usual, usual.quick = form.quick, form.usual
	random := make([]byte, 8<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(random)
	q, u, both := pressed(t, quick, 2, 1<<20, random), pressed(t, usual, 2, 1<<20, random), pressed(t, form, 2, 1<<20, random)
	if len(both) > len(u)+len(u)/form.margin {
		t.Errorf("random bytes: %d by choice, %d at the quick level, %d at the usual", len(both), len(q), len(u))
	}
	for _, n := range []int{3 << 20, 13 << 20} {
		data := mixed(n)
		u, both := pressed(t, usual, 2, 1<<20, data), pressed(t, form, 2, 1<<20, data)
		if len(both) > len(u)+len(u)/20 {
			t.Errorf("%d bytes: %d by choice, %d at the usual level", n, len(both), len(u))
		}
	}
}

type brokenWriter struct{ left int }

var errBroken = errors.New("broken")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

// A writer that fails ends it, wherever it fails.
func TestPiecesBroken(t *testing.T) {
	data := mixed(6 << 20)
	for _, form := range []pieceForm{gzipForm(0), zstdForm(0, "")} {
		for _, left := range []int{20, 100_000, 2_000_000} {
			w, err := newPieceWriter(&brokenWriter{left}, form, 3)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(w, struct{ io.Reader }{bytes.NewReader(data)})
			if err = errors.Join(err, w.Close()); !errors.Is(err, errBroken) {
				t.Errorf("a writer that takes %d bytes: %v", left, err)
			}
		}
	}
	if _, err := newPieceWriter(&brokenWriter{}, gzipForm(0), 2); !errors.Is(err, errBroken) {
		t.Errorf("a writer that takes nothing: %v", err)
	}
}
