package layer

import (
	"errors"

	"strata/internal/disk"
)

// What lies in a layer's directory beside the files of a tree, in each form. The lock is empty and takes nothing.
var (
	tarParts = [...]string{"", "/" + metaName, "/" + sumsName, "/" + tarName, "/" + indexName}
	dirParts = [...]string{"", "/" + metaName, "/" + sumsName, "/" + skelName}
)

// Usage is what the layer of the record takes on the disk in bytes, all of its directory. The files of a layer in directory form
// were measured when it was published: they do not change.
func (s *Store) Usage(m Meta) (int64, error) {
	dir, total, parts := s.path(m.DiffID), m.Tree, dirParts[:]
	switch {
	case m.Form == "", m.Form == formDir && m.Tree == 0:
		return disk.Usage(dir)
	case m.Form == formTar:
		parts = tarParts[:]
	}
	for _, name := range parts {
		n, err := disk.Lstat(dir + name)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// measure notes what the trees of a staged layer in directory form take.
func (g *staging) measure(m *Meta) error {
	if m.Form != formDir {
		return nil
	}
	files, err := disk.Usage(g.fs())
	side, serr := disk.Usage(g.path + "/" + sideName)
	m.Tree = files + side
	return errors.Join(err, serr)
}
