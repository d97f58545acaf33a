package tpm

// Data is what an operator keeps on file about TPMs: advisories, revoked keys
// and certificates, intermediate authorities and revocation lists. It does not change after LoadData.
type Data struct{}

// LoadData reads a folder: advisories.json, revoked.json, intermediates/ and
// crls/, each optional; a folder that is not there is an empty Data. Anything in them that
// cannot be read is an error that names the file, and the line where it has lines.
func LoadData(dir string) (*Data, error) {
	return &Data{}, nil
}
