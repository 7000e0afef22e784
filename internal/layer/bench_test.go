package layer_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"testing"

	"strata/internal/layer"
)

// BenchmarkIngest unpacks 15,000 files, 270 MB.
func BenchmarkIngest(b *testing.B) {
	content := make([]byte, 18_000)
	rand.Read(content)
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for i := range 15_000 {
		h := entry(tar.TypeReg, fmt.Sprintf("usr/share/package-%d/dir-%d/file-%d", i/200, i/20, i))
		h.Size = int64(len(content))
		w.WriteHeader(h)
		copy(content, fmt.Sprint(i))
		w.Write(content)
	}
	w.Close()
	b.SetBytes(int64(raw.Len()))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s, _ := open(b, options())
		b.StartTimer()
		m, err := s.Ingest(b.Context(), bytes.NewReader(raw.Bytes()), "")
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if m.Entries != 15_000 {
			b.Fatal(m)
		}
		b.StartTimer()
	}
}

// BenchmarkTar gives the tar of such a layer.
func BenchmarkTar(b *testing.B) {
	s, _ := open(b, options())
	var list []*tar.Header
	for i := range 5000 {
		list = append(list, entry(tar.TypeReg, fmt.Sprintf("d%d/file-%d", i/50, i), "some content"))
	}
	m, err := s.Ingest(b.Context(), bytes.NewReader(archive(b, list...)), "")
	must(b, err)
	b.SetBytes(m.Size)
	for b.Loop() {
		r, err := s.Tar(b.Context(), m.DiffID)
		must(b, err)
		_, err = io.Copy(io.Discard, r)
		must(b, err, r.Close())
	}
}

// BenchmarkCommit commits an upper directory of one file over a stack of 40 layers.
func BenchmarkCommit(b *testing.B) {
	s, root := open(b, options())
	var lower []string
	for i := range 40 {
		lower = append(lower, lowerOf(b, s, entry(tar.TypeDir, "etc/"), entry(tar.TypeReg, "etc/f", fmt.Sprint(i))))
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		up := upperDir(b, root)
		n++
		must(b, os.Mkdir(up+"/etc", 0o755), os.WriteFile(up+"/etc/f", fmt.Append(nil, n), 0o644))
		b.StartTimer()
		m, err := s.Commit(b.Context(), up, layer.CommitOptions{Lower: lower})
		if err != nil || m.Entries != 2 {
			b.Fatal(m, err)
		}
	}
}
