package atomicfile

import (
	"fmt"

	"strata/internal/errdef"
)

// Durability says when what a command made is on the disk.
type Durability string

// AtEnd, which the zero Durability means too, is before the command reports that it is done; Always is as soon as each thing is
// made; Never is when the kernel gets to it.
const (
	AtEnd  Durability = "end"
	Always Durability = "always"
	Never  Durability = "never"
)

// ParseDurability reads a durability; "" is AtEnd.
func ParseDurability(s string) (Durability, error) {
	switch d := Durability(s); d {
	case "":
		return AtEnd, nil
	case AtEnd, Always, Never:
		return d, nil
	}
	return "", fmt.Errorf("durability %.40q (end, always or never): %w", s, errdef.ErrInvalid)
}

// Policy gives the durability when it is first needed. A nil Policy is AtEnd.
type Policy func() (Durability, error)

// Get gives the durability.
func (p Policy) Get() (Durability, error) {
	if p == nil {
		return AtEnd, nil
	}
	return p()
}
