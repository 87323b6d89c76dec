//! The list of components of a release, in CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>).
//!
//! It is written here because cargo-cyclonedx makes one file for each binary, beside its manifest, and has to be
//! compiled first.

use anyhow::Context;
use serde_json::{Value, json};

use super::packages::{Package, Packages};

/// Returns the document. `seconds` since 1970 is the time of the release.
///
/// # Errors
/// If the time is out of range, or a crate is missing.
pub(super) fn sbom(packages: &Packages, seconds: u64) -> anyhow::Result<Value> {
    let time =
        jiff::Timestamp::from_second(i64::try_from(seconds)?).context("the time of the release")?;
    let version = packages.version()?;
    let all = packages.with_dependencies();
    let components: Vec<Value> = all.iter().map(|(it, _)| component(packages, it)).collect();
    let dependencies: Vec<Value> = all
        .iter()
        .map(|(package, direct)| {
            let on: Vec<String> = direct.iter().map(|it| reference(it)).collect();
            json!({ "ref": reference(package), "dependsOn": on })
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.to_string(),
            "component": {
                "type": "application",
                "bom-ref": "mailpulse-release",
                "name": "mailpulse",
                "version": version,
                "licenses": [{ "expression": "Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn component(packages: &Packages, package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "scope": "required",
    });
    if let Some(licence) = &package.license {
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(checksum) = packages.checksum(package) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The package URL. A plus sign, which separates the metadata of a version, must be encoded.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}
