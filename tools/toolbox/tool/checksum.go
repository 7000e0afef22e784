package tool

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// checksum is md5sum, sha1sum, sha256sum, sha512sum: prints the digests of files, or with -c checks them.
func checksum(p *Proc) error {
	o, names, err := p.opts("cbts", "check=c", "binary=b", "text=t", "status=s", "quiet=s")
	if err != nil {
		return err
	}
	sum := func(r io.Reader) (string, error) {
		h := map[string]func() hash.Hash{"md5sum": md5.New, "sha1sum": sha1.New, "sha256sum": sha256.New, "sha512sum": sha512.New}[p.Name]()
		_, err := io.Copy(h, r)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	if o.has('c') {
		return check(p, o, names, sum)
	}
	p.inputs(names, func(name string, r io.Reader) error {
		s, err := sum(r)
		if err == nil {
			fmt.Fprintf(p.Out, "%s  %s\n", s, name)
		}
		return err
	})
	return nil
}

func check(p *Proc, o opts, lists []string, sum func(io.Reader) (string, error)) error {
	bad := 0
	p.inputs(lists, func(_ string, r io.Reader) error {
		return lines(r, func(line string) error {
			want, name, ok := strings.Cut(line, " ")
			if !ok {
				return fmt.Errorf("%.60q is not a line of digest and name", line)
			}
			name = strings.TrimLeft(name, " *")
			verdict := "OK"
			err := p.input(name, func(_ string, r io.Reader) error {
				got, err := sum(r)
				if err == nil && !strings.EqualFold(got, want) {
					err = errors.New("FAILED")
				}
				return err
			})
			if err != nil {
				bad++
				verdict = "FAILED"
			}
			if !o.has('s') {
				fmt.Fprintf(p.Out, "%s: %s\n", name, verdict)
			}
			return nil
		})
	})
	if bad > 0 {
		p.warn(fmt.Errorf("%d computed checksums did not match", bad))
	}
	return nil
}
