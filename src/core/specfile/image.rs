//! `[image]`: what `ami build` puts into an image besides programs and files, and where copies of it go.

use super::section::Section;
use super::{Provider, is_region};
use crate::core::names::nearest;
use crate::model::spec::{ImageSpec, Secrets};

pub(super) fn read(file: &Section<'_>, provider: Option<Provider>) -> ImageSpec {
    let section = file.section("image", "[image]");
    let ec2 = provider.is_none_or(|provider| provider == Provider::Ec2);
    let spec = ImageSpec { secrets: secrets(&section, ec2), regions: regions(&section, ec2) };
    section.refuse_unknown();
    spec
}

fn secrets(section: &Section<'_>, ec2: bool) -> Secrets {
    let Some(given) = section.text("secrets", "ssm") else { return Secrets::Without };
    match given.value.as_str() {
        "none" => Secrets::Without,
        "ssm" if ec2 => Secrets::Ssm,
        "ssm" => {
            let message = "only hosts of provider = \"ec2\" can read SSM parameters";
            section.sink.add(&given.at, message, "take it out: these hosts have no secrets to fetch");
            Secrets::Without
        }
        other => {
            let cure = match nearest(other, ["ssm", "none"]) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "there are \"ssm\" (parameters /clusterctl/<cluster>/…) and \"none\"".to_owned(),
            };
            section.sink.add(&given.at, format!("secrets in [image] cannot be \"{}\"", other.escape_debug()), cure);
            Secrets::Without
        }
    }
}

fn regions(section: &Section<'_>, ec2: bool) -> Vec<String> {
    let given = section.texts("regions", "us-east-1").unwrap_or_default();
    let mut regions: Vec<String> = Vec::new();
    for region in given {
        if !ec2 {
            let message = "only images of provider = \"ec2\" are copied to regions";
            section.sink.add(&region.at, message, "take `regions` out");
            break;
        }
        if !is_region(&region.value) {
            let message = format!("regions in [image]: \"{}\" is no region", region.value.escape_debug());
            section.sink.add(&region.at, message, "write for example: regions = [\"us-east-1\"]");
        } else if regions.contains(&region.value) {
            section.sink.add(&region.at, format!("{} stands there twice", region.value), "name each region once");
        }
        regions.push(region.value);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::model::spec::{ImageSpec, Secrets};

    fn read(provider: &str, image: &str) -> Result<ImageSpec, String> {
        let text = format!(
            "[cluster]\nname = \"shop\"\nprovider = \"{provider}\"\n[ec2]\nssh_from = [\"192.0.2.1\"]\n[image]\n{image}\n"
        );
        let text = if provider == "ec2" { text } else { text.replace("[ec2]\nssh_from = [\"192.0.2.1\"]\n", "") };
        parse(&text, "cluster.toml").map(|spec| spec.image).map_err(|errors| errors.to_string())
    }

    #[test]
    fn it_is_read() {
        assert_eq!(read("ec2", "").unwrap(), ImageSpec::default());
        let whole = read("ec2", "secrets = \"ssm\"\nregions = [\"us-east-1\", \"eu-central-1\"]").unwrap();
        assert_eq!((whole.secrets, whole.regions.len()), (Secrets::Ssm, 2));
        assert_eq!(read("sandbox", "secrets = \"none\"").unwrap(), ImageSpec::default());
    }

    #[test]
    fn mistakes_have_their_line_and_their_cure() {
        let mistakes = [
            ("ec2", "secrets = \"smm\""),
            ("ec2", "secrets = \"vault\""),
            ("ec2", "secrets = true"),
            ("ec2", "regions = [\"us-east-1\", \"Ireland\", \"us-east-1\"]"),
            ("ec2", "regions = \"us-east-1\""),
            ("ec2", "region = [\"us-east-1\"]"),
            ("sandbox", "secrets = \"ssm\"\nregions = [\"us-east-1\"]"),
        ];
        let told: Vec<String> = mistakes.iter().map(|(provider, image)| read(provider, image).unwrap_err()).collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
