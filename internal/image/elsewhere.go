package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"strata/internal/record"
	"strata/internal/reference"
)

// TaggedIn reports whether the store at root, which is not opened for it and may be another user's, has a tag. An error
// means that it could not be looked at.
func TaggedIn(root, name string) (bool, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return false, err
	}
	file, err := record.File(filepath.Join(root, "refs"), key(ref.Latest().String()))
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
