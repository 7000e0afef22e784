package network

import (
	"os"

	"strata/internal/errdef"
)

func (s *Store) ground() (*os.File, error) { return nil, errdef.ErrUnsupported }

func (s *Store) groundAvailable() error { return errdef.ErrUnsupported }
