package atomicfile

import (
	"bytes"
	"fmt"
	"hash/crc32"

	"strata/internal/errdef"
)

// A stamp is the first member of a JSON object: the CRC-32C, in hexadecimal, of the object without it. It tells a byte
// that rotted on the disk from one that was written, where the bytes alone would still make sense.
const (
	stampHead = `{"crc":"`
	stampTail = `",`
	stampLen  = len(stampHead) + 8 + len(stampTail)
)

// castagnoli is the polynomial that processors have an instruction for.
func castagnoli(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// Stamp puts a stamp into a JSON object. Who reads it as JSON finds one member more. Anything else is given back as it is.
func Stamp(object []byte) []byte {
	if len(object) < 3 || object[0] != '{' {
		return object
	}
	out := make([]byte, 0, len(object)+stampLen)
	out = fmt.Appendf(out, "%s%08x%s", stampHead, castagnoli(object), stampTail)
	return append(out, object[1:]...)
}

// Unstamp checks the stamp of a JSON object and takes it out, in place: errdef.ErrCorrupt when the object has none, or one
// of other bytes.
func Unstamp(raw []byte) ([]byte, error) {
	if len(raw) <= stampLen || !bytes.HasPrefix(raw, []byte(stampHead)) || string(raw[stampLen-len(stampTail):stampLen]) != stampTail {
		return nil, fmt.Errorf("it has no checksum: %w", errdef.ErrCorrupt)
	}
	sum := string(raw[len(stampHead) : len(stampHead)+8])
	object := raw[stampLen-1:]
	object[0] = '{'
	if got := fmt.Sprintf("%08x", castagnoli(object)); got != sum {
		return nil, fmt.Errorf("its bytes have the checksum %s, not %.8q: %w", got, sum, errdef.ErrCorrupt)
	}
	return object, nil
}

// Strip takes a stamp out of an object without looking whether it is right.
func Strip(raw []byte) []byte {
	if !Stamped(raw) || len(raw) <= stampLen {
		return raw
	}
	return append([]byte("{"), raw[stampLen:]...)
}

// Stamped reports whether raw begins as a stamped object does.
func Stamped(raw []byte) bool { return bytes.HasPrefix(raw, []byte(stampHead)) }
