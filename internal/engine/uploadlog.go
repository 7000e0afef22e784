package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
)

// uploadLog is the place of the upload of one layer, in a file beside the pulls' that its user holds locked: with it the
// upload of a killed process goes on.
type uploadLog struct{ lock *atomicfile.Lock }

// maxUploadPlace bounds what is read: registries put their whole state into these URLs.
const maxUploadPlace = 64 << 10

// openUploadLog takes the log of a layer that goes to a repository in one form. When another process has it, nothing is
// remembered of this upload. close must be called.
func (e *Engine) openUploadLog(ref reference.Ref, id oci.DiffID, form PushForm) (log remote.UploadLog, close func() error, err error) {
	dir := e.partialDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("upload of layer %s: %w", id, err)
	}
	key := sha256.Sum256([]byte(strings.Join([]string{ref.Name(), string(id), form.compression(), strconv.Itoa(form.Level)}, "\n")))
	path := filepath.Join(dir, "upload-"+hex.EncodeToString(key[:]))
	lock, err := atomicfile.TryExclusive(path)
	if errors.Is(err, errdef.ErrConflict) {
		return nil, func() error { return nil }, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("upload of layer %s: %w", id, err)
	}
	l := uploadLog{lock}
	return l, func() error {
		if l.Last() == "" { // it has ended
			err = os.Remove(path)
		}
		return errors.Join(err, lock.Unlock())
	}, nil
}

// Last is the place that was noted.
func (l uploadLog) Last() string {
	raw, err := io.ReadAll(io.NewSectionReader(l.lock.File(), 0, maxUploadPlace))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// Note replaces the place.
func (l uploadLog) Note(place string) error {
	f := l.lock.File()
	if err := f.Truncate(0); err != nil || place == "" {
		return err
	}
	_, err := f.WriteAt([]byte(place+"\n"), 0)
	return err
}

// partialDir is what layers have on their way.
func (e *Engine) partialDir() string { return filepath.Join(e.opts.Root, "partial") }
