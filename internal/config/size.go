package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// ParseSize reads a size in bytes: a number and a binary unit (b, k, m, g, t, p; kb and kib mean k), "512m", "1.5g".
func ParseSize(s string) (int64, error) {
	bad := fmt.Errorf("size %q: want a number of bytes, or one with b, k, m, g, t or p: %w", s, errdef.ErrInvalid)
	digits := strings.TrimRightFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	shift := 0
	if unit != "" && unit != "b" {
		at := strings.IndexByte("kmgtp", unit[0])
		if rest := unit[1:]; at < 0 || rest != "" && rest != "b" && rest != "ib" {
			return 0, bad
		}
		shift = 10 * (at + 1)
	}
	n, err := strconv.ParseFloat(digits, 64)
	if strings.ContainsAny(digits, "eExX_+-") || err != nil {
		return 0, bad
	}
	if n *= math.Ldexp(1, shift); n >= math.MaxInt64 {
		return 0, bad
	}
	return int64(n), nil
}
