package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// The file sums tells which file of a layer is damaged, where the diffID only tells that one is: after its magic the CRC-32C
// of each payload of the tar, in its order, four bytes each, big endian, and that of all these bytes. Counted are regular
// files with content that are not sparse. A layer without such files, or of an older strata, has no sums.
const (
	sumsName  = "sums"
	sumsMagic = "strsums1"
	maxSums   = len(sumsMagic) + 4*(DefaultMaxEntries+1)
)

// sums collects the checksums of payloads.
type sums struct {
	table *crc32.Table
	raw   []byte
}

func newSums() *sums {
	return &sums{table: crc32.MakeTable(crc32.Castagnoli), raw: []byte(sumsMagic)}
}

func (s *sums) add(sum uint32) { s.raw = binary.BigEndian.AppendUint32(s.raw, sum) }

// write makes the file of what was collected.
func (s *sums) write(path string) error {
	if len(s.raw) == len(sumsMagic) {
		return nil
	}
	s.add(crc32.Checksum(s.raw, s.table))
	return os.WriteFile(path, s.raw, 0o600)
}

// summed reports whether an entry's payload has a checksum of its own.
func summed(hdr *tar.Header) bool {
	return hdr.Typeflag == tar.TypeReg && hdr.Size > 0 && !isSparse(hdr)
}

// summer passes a payload through.
type summer struct {
	r     io.Reader
	table *crc32.Table
	sum   uint32
}

func (s *summer) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, s.table, p[:n])
	return n, err
}

// readSums gives the checksums of a layer, nil when it has none: errdef.ErrCorrupt when they are damaged themselves.
func readSums(path string) ([]uint32, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, int64(maxSums)+1))
	if err != nil {
		return nil, err
	}
	end := len(raw) - 4
	if end < len(sumsMagic) || len(raw) > maxSums || len(raw)%4 != 0 || !bytes.HasPrefix(raw, []byte(sumsMagic)) ||
		binary.BigEndian.Uint32(raw[end:]) != crc32.Checksum(raw[:end], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("file %q: its checksums do not match themselves: %w", sumsName, errdef.ErrCorrupt)
	}
	list := make([]uint32, 0, end/4)
	for p := raw[len(sumsMagic):end]; len(p) > 0; p = p[4:] {
		list = append(list, binary.BigEndian.Uint32(p))
	}
	return list, nil
}

// blame names the entries whose payloads are not what they were, as far as the tar can be read. More than a few are not
// listed.
func (s *Store) blame(ctx context.Context, id oci.DiffID, list []uint32) (names []string) {
	r, err := s.rawTar(ctx, id)
	if err != nil {
		return nil
	}
	defer r.Close()
	tr := tar.NewReader(struct{ io.Reader }{r}) // which reads what it passes over
	in := &summer{r: tr, table: crc32.MakeTable(crc32.Castagnoli)}
	for len(names) < mostBlamed && len(list) > 0 {
		hdr, err := tr.Next()
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return names
		}
		if !summed(hdr) {
			continue
		}
		in.sum = 0
		if _, err := io.Copy(io.Discard, in); err != nil {
			return names
		}
		if list[0] != in.sum {
			names = append(names, hdr.Name)
		}
		list = list[1:]
	}
	return names
}

// mostBlamed is how many damaged files of one layer are named.
const mostBlamed = 8
