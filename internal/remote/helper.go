package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"strata/internal/errdef"
)

const (
	// helperNone is what helpers say that have nothing for a registry.
	helperNone = "credentials not found in native keychain"
	// helperToken is the user name of an identity token.
	helperToken = "<token>"
)

// helperDoc is what helpers read and write. See docker-credential-helpers, "Development".
type helperDoc struct {
	ServerURL, Username, Secret string
}

// askHelper runs docker-credential-HELPER get.
func askHelper(ctx context.Context, helper, key string) (credential, error) {
	out, err := runHelper(ctx, helper, "get", []byte(key))
	if err != nil || out == nil {
		return credential{}, err
	}
	var doc helperDoc
	if err := json.Unmarshal(out, &doc); err != nil {
		return credential{}, helperError(helper, errors.New("its answer is not in the form that it should have"))
	}
	if doc.Username == helperToken {
		return credential{identity: doc.Secret}, nil
	}
	return credential{user: doc.Username, secret: doc.Secret}, nil
}

// tellHelper gives a helper a password to keep.
func tellHelper(ctx context.Context, helper, key string, cred credential) error {
	doc, err := json.Marshal(helperDoc{ServerURL: key, Username: cred.user, Secret: cred.secret})
	if err != nil {
		return err
	}
	_, err = runHelper(ctx, helper, "store", doc)
	return err
}

// erase makes a helper forget.
func erase(ctx context.Context, helper, key string) error {
	_, err := runHelper(ctx, helper, "erase", []byte(key))
	return err
}

// runHelper runs a helper and gives what it prints; nil where it has nothing for the registry.
func runHelper(ctx context.Context, helper, action string, in []byte) ([]byte, error) {
	program := "docker-credential-" + helper
	if strings.ContainsRune(helper, '/') {
		return nil, fmt.Errorf("credential helper %.80q: it is no plain name: %w", helper, errdef.ErrInvalid)
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("credential helper %s: it is not installed: %w", program, errdef.ErrUnavailable)
	}
	cmd := exec.CommandContext(ctx, program, action)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	switch said := string(bytes.TrimSpace(out)); said {
	case helperNone:
		return nil, nil
	case "":
		return nil, helperError(helper, err)
	default:
		return nil, helperError(helper, errors.New(said))
	}
}

func helperError(helper string, err error) error {
	return fmt.Errorf("credential helper docker-credential-%s: %s: %w", helper, short(err.Error()), errdef.ErrUnavailable)
}
