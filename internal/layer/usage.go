package layer

import (
	"errors"

	"strata/internal/disk"
)

// Usage is what the layer of the record takes on the disk in bytes, all of its directory. The files of a layer in directory form
// were measured when it was published: they do not change.
func (s *Store) Usage(m Meta) (int64, error) {
	total := m.Tree
	switch {
	case m.Form == "", m.Form == formDir && m.Tree == 0:
		return disk.Usage(s.path(m.DiffID))
	case m.Form == formTar:
		for _, name := range []string{tarName, indexName} {
			n, err := disk.Lstat(s.path(m.DiffID, name))
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	for _, name := range []string{"", metaName, sumsName, skelName, lockName} {
		n, err := disk.Lstat(s.path(m.DiffID, name))
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
