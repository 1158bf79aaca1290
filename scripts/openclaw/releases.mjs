/** The releases that are proven, and for each the diffs that a maintainer may take. */
import { variants as variants96 } from "./2026.9.6/variants.mjs";

export const RELEASES = [{ version: "2026.9.6", nodes: ["24"], provider: "openai", variants: variants96 }];
