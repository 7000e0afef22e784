package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// ruleShortSecret is the name of the warning about a secret that is not searched for.
const ruleShortSecret = "SecretNotSearched"

// ShortSecrets warns of the secrets that are too short to be searched for in what a build makes.
func ShortSecrets(secrets map[string][]byte) []dockerfile.Warning {
	var all []dockerfile.Warning
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		if len(secretPatterns(id, secrets[id])) == 0 {
			all = append(all, dockerfile.Warning{Rule: ruleShortSecret,
				Text: fmt.Sprintf("secret %q has less than %d bytes: it is not searched for in what the build makes", id, leastSecret)})
		}
	}
	return all
}

// leaks looks for secrets in what steps make. A nil leaks finds nothing.
type leaks struct{ match *matcher }

// newLeaks is nil without secrets, or when they may be anywhere.
func newLeaks(d *Deps) *leaks {
	if d.AllowLeak {
		return nil
	}
	var patterns []pattern
	for _, id := range slices.Sorted(maps.Keys(d.Secrets)) {
		patterns = append(patterns, secretPatterns(id, d.Secrets[id])...)
	}
	if m := newMatcher(patterns); m != nil {
		return &leaks{m}
	}
	return nil
}

// leakError says that a secret was found, and in what.
type leakError struct {
	pattern *pattern
	where   string
}

func (e *leakError) Error() string {
	return fmt.Sprintf("the secret %q is in %s (%s)", e.pattern.secret, e.where, e.pattern.as)
}

// Unwrap classes the error.
func (e *leakError) Unwrap() error { return errdef.ErrInvalid }

func leaked(p *pattern, where string) error {
	return errdef.WithHint(&leakError{p, where}, "use it without writing it down; if it may be there: --allow-secret-leak")
}

// tree searches what a step has written, before it becomes a layer: names and contents.
func (l *leaks) tree(ctx context.Context, upper string) error {
	if l == nil {
		return nil
	}
	s := &leakScan{match: l.match}
	return filepath.WalkDir(upper, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || name == upper {
			return err
		}
		inside := strings.TrimPrefix(name, upper)
		if p := l.match.find([]byte(inside)); p != nil {
			before, _, _ := strings.Cut(inside, string(p.text)) // no part of it gets into the message
			return leaked(p, "the name of a file in "+filepath.Dir(before+"x"))
		}
		switch d.Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			if p := l.match.find([]byte(target)); p != nil {
				return leaked(p, "the link "+inside)
			}
		case 0:
			p, err := s.file(ctx, name)
			if err != nil {
				return fmt.Errorf("search for secrets: %w", err)
			}
			if p != nil {
				return leaked(p, inside)
			}
		}
		return nil
	})
}

// leakScan reads files through one buffer.
type leakScan struct {
	match *matcher
	buf   []byte
}

const leakChunk = 256 << 10

// file searches a file's data; holes are not read.
func (s *leakScan) file(ctx context.Context, name string) (*pattern, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for at := int64(0); ; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole up to the end
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		end, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		if p, err := s.stream(ctx, io.NewSectionReader(f, data, end-data)); p != nil || err != nil {
			return p, err
		}
		at = end
	}
}

// stream searches r. What could be the beginning of a pattern at the end of one chunk is seen again with the next.
func (s *leakScan) stream(ctx context.Context, r io.Reader) (*pattern, error) {
	if s.buf == nil {
		s.buf = make([]byte, leakChunk+s.match.longest)
	}
	kept := 0
	for {
		n, err := io.ReadFull(r, s.buf[kept:])
		data := s.buf[:kept+n]
		if p := s.match.find(data); p != nil {
			return p, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		kept = copy(s.buf, data[max(0, len(data)-s.match.longest+1):])
	}
}

// plan searches what the images of a build will say of themselves, and so what its keys are made of, before anything is run.
func (l *leaks) plan(p *Plan) error {
	if l == nil {
		return nil
	}
	for _, s := range p.Stages {
		if s.Index < 0 {
			continue
		}
		err := l.config(s.Image)
		var found *leakError
		if !errors.As(err, &found) {
			continue
		}
		for n, line := range strings.Split(string(p.File.Source), "\n") {
			if strings.Contains(line, string(found.pattern.text)) {
				return p.File.At(n+1, n+1, leaked(found.pattern, found.where))
			}
		}
		return err
	}
	return nil
}

// config searches what an image says of itself.
func (l *leaks) config(img *oci.Image) error {
	var found error
	look := func(where string, texts ...string) {
		for _, text := range texts {
			if p := l.match.find([]byte(text)); p != nil && found == nil {
				found = leaked(p, where)
			}
		}
	}
	cfg := &img.Config
	for _, kv := range cfg.Env {
		name, value, _ := strings.Cut(kv, "=")
		look("the environment of the image, "+l.name("variable", name), name, value)
	}
	for _, key := range slices.Sorted(maps.Keys(cfg.Labels)) {
		look("the labels of the image, "+l.name("label", key), key, cfg.Labels[key])
	}
	for i, h := range img.History {
		word, _, _ := strings.Cut(h.CreatedBy, " ")
		look(fmt.Sprintf("entry %d of the history of the image, %s", i+1, l.name("instruction", word)), h.CreatedBy, h.Comment, h.Author)
	}
	look("the command of the image", append(slices.Clone(cfg.Cmd), cfg.Entrypoint...)...)
	look("the config of the image", append([]string{cfg.User, cfg.WorkingDir, img.Author, cfg.StopSignal}, append(slices.Clone(cfg.OnBuild), cfg.Shell...)...)...)
	look("the volumes of the image", slices.Collect(maps.Keys(cfg.Volumes))...)
	if cfg.Healthcheck != nil {
		look("the health check of the image", cfg.Healthcheck.Test...)
	}
	return found
}

// name is a name as messages may show it: not if it is the secret.
func (l *leaks) name(kind, name string) string {
	if l.match.find([]byte(name)) != nil {
		return "a " + kind + "'s name"
	}
	return kind + " " + name
}
